"""The perceptual distance with random weights of the right shapes."""

import pytest
import torch
from torch import nn

from trainables.training.perceptual import SHAPES, Vgg16, perceptual


def random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict as torchvision's VGG16 has it, as far as it is read."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for place, shape in SHAPES.items():
        scale = (2 / (9 * shape[1])) ** 0.5
        found[f"features.{place}.weight"] = scale * torch.randn(shape, generator=generator)
        found[f"features.{place}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)
    return found


@pytest.fixture(scope="module")
def vgg() -> Vgg16:
    return Vgg16(random_weights())


def reference(weights: dict[str, torch.Tensor]) -> nn.Sequential:
    """VGG16's first layers as torchvision puts them together: configuration D with a ReLU after each convolution."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256):
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    features = nn.Sequential(*layers)
    features.load_state_dict({name.removeprefix("features."): value for name, value in weights.items()})
    return features


def test_features_are_those_of_relu1_2_relu2_2_and_relu3_3(vgg):
    features, x = reference(random_weights()), torch.rand(2, 3, 16, 16)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    y = (x - mean[:, None, None]) / deviation[:, None, None]
    with torch.no_grad():
        expected = [features[:end](y) for end in (4, 9, 16)]
    for found, wanted in zip(vgg.features(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_equal_images_are_at_no_distance_and_others_at_some(vgg):
    x, y = torch.rand(2, 2, 3, 16, 16)
    assert perceptual(vgg, x, x).tolist() == [0, 0]
    assert (perceptual(vgg, x, y) > 0).all()
    torch.testing.assert_close(perceptual(vgg, x, y)[:1], perceptual(vgg, x[:1], y[:1]), atol=1e-5, rtol=1e-4)


def test_grey_is_as_much_of_each_colour(vgg):
    x, y = torch.rand(2, 2, 1, 16, 16)
    expected = perceptual(vgg, x.repeat(1, 3, 1, 1), y.repeat(1, 3, 1, 1))
    torch.testing.assert_close(perceptual(vgg, x, y), expected)


def test_the_gradient_goes_to_the_images_alone(vgg):
    x, y = torch.rand(2, 2, 3, 16, 16)
    images, true = x.requires_grad_(), y.requires_grad_()
    perceptual(vgg, images, true).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().max() > 0
    assert true.grad is None
