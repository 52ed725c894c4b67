"""The perceptual distance (Johnson et al. 2016): mean squared differences of VGG16's features of two images.

Shape legend: N = images, C = channel, H, W = pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

# ImageNet's mean and standard deviation of red, green and blue, which the weights were trained with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Blocks of VGG16 (Simonyan & Zisserman 2015, configuration D) by their convolutions' place in torchvision's `features`; between blocks
# size is halved. What a block's last ReLU gives are the features: relu1_2, relu2_2 and relu3_3.
BLOCKS = ((0, 2), (5, 7), (10, 12, 14))
SHAPES = {
    0: (64, 3, 3, 3),
    2: (64, 64, 3, 3),
    5: (128, 64, 3, 3),
    7: (128, 128, 3, 3),
    10: (256, 128, 3, 3),
    12: (256, 256, 3, 3),
    14: (256, 256, 3, 3),
}
"""Of the weights by that place."""
TENSORS = {
    f"features.{place}.{kind}": shape if kind == "weight" else shape[:1]
    for place, shape in SHAPES.items()
    for kind in ("weight", "bias")
}
"""Names of torchvision's, and the shapes."""


class Vgg16:
    """The first three blocks with given weights, which no training changes. No module: it is in no network and no checkpoint.

    Args:
        weights: `TENSORS`.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: str | torch.device = "cpu") -> None:
        self._layers = {
            place: tuple(weights[f"features.{place}.{kind}"].to(device) for kind in ("weight", "bias"))
            for place in SHAPES
        }
        self._mean, self._deviation = (
            torch.tensor(values, device=device)[:, None, None] for values in (MEAN, DEVIATION)
        )

    def features(self, images: Tensor) -> list[Tensor]:
        """Of images [N, 1 or 3, H, W] in [0, 1], at least 4 px a side: three feature maps. Grey is as much red, green and blue."""
        x = (images.expand(-1, 3, -1, -1) - self._mean) / self._deviation
        found = []
        for number, block in enumerate(BLOCKS):
            if number:
                x = F.max_pool2d(x, 2)
            for place in block:
                weight, bias = self._layers[place]
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            found.append(x)
        return found


def perceptual(vgg: Vgg16, images: Tensor, true: Tensor) -> Tensor:
    """Sum over the three maps of the mean squared difference of their features, [N]."""
    with torch.no_grad():
        expected = vgg.features(true)
    pairs = zip(vgg.features(images), expected, strict=True)
    return torch.stack([(a - b).square().flatten(1).mean(dim=1) for a, b in pairs]).sum(dim=0)
