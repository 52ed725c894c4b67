import numpy as np
import pytest
import torch

from tests.trainables.images.conftest import write_mnist
from trainables.images.data import ImageSplit, ImageTensors, nats_of_levels
from trainables.images.image_data import ImageData


def grey(levels: list[int], **keys) -> ImageSplit:
    images = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1)
    return ImageSplit(images, torch.zeros(len(levels), dtype=torch.long), **{"binary": False, "dynamic": False, **keys})


def every(split: ImageSplit) -> torch.Tensor:
    return torch.arange(len(split))


def test_pixels_are_what_each_likelihood_takes():
    split = grey([0, 51, 255])
    assert split.pixels(every(split), "levels").flatten().tolist() == pytest.approx([0, 0.2, 1])
    chance = torch.tensor([0.0, 0.5, 0.999]).view(3, 1, 1, 1)
    continuous = split.pixels(every(split), "unit", chance).flatten()
    assert continuous.tolist() == pytest.approx([0, 51.5 / 256, 255.999 / 256])
    assert continuous.max() < 1
    assert (continuous * 256).floor().tolist() == [0, 51, 255]


def test_dynamic_pixels_are_drawn_and_static_ones_are_as_they_are():
    split = grey([0, 51, 255] * 20_000, dynamic=True)
    drawn = split.pixels(every(split), "binary", torch.rand(split.images.shape)).view(-1, 3)
    assert drawn.mean(dim=0).tolist() == pytest.approx([0, 0.2, 1], abs=0.01)
    again = split.pixels(every(split), "binary", torch.rand(split.images.shape)).view(-1, 3)
    assert (again != drawn).any()
    static = grey([0, 1, 1], binary=True)
    assert not static.needs_chance("binary")
    assert static.pixels(every(static), "binary").flatten().tolist() == [0, 1, 1]


@pytest.mark.parametrize(("keys", "space"), [({}, "binary"), ({"binary": True}, "unit"), ({"dynamic": True}, "levels")])
def test_pixels_of_another_kind_are_refused(keys, space):
    split = grey([0, 1], **keys)
    with pytest.raises(ValueError, match=f"'{space}' pixels"):
        split.pixels(every(split), space, torch.rand(2, 1, 1, 1))


def test_the_chances_of_held_out_pixels_are_fixed():
    split = grey(list(range(100)))
    torch.testing.assert_close(split.fixed_pixels("unit"), split.fixed_pixels("unit"), rtol=0, atol=0)
    assert split.fixed_pixels("unit").flatten().tolist() != [(level + 0.5) / 256 for level in range(100)]


def test_a_uniform_density_is_a_uniform_mass():
    """-log of the density 1 is 0 nats; of a mass of 1/256 for each level it is 8 bits a value."""
    assert nats_of_levels("unit", 10) == pytest.approx(10 * 8 * np.log(2))
    assert nats_of_levels("levels", 10) == nats_of_levels("binary", 10) == 0


def test_prepared_sets_are_opened(tmp_path, prepare):
    write_mnist(tmp_path)
    sets = prepare(ImageData(images="mnist", root=str(tmp_path), binarise="dynamic"))
    data = ImageTensors.load(sets)
    assert data.train.dynamic
    assert not data.train.binary
    assert data.validation.binary
    assert (len(data.train), len(data.validation)) == (50, 10)
    assert data.train.shape == (1, 8, 8)
    assert data.validation.elements == 64
    assert data.device == torch.device("cpu")
    assert data.validation.first(3).labels.tolist() == data.validation.labels[:3].tolist()
