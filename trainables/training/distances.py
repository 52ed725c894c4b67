"""Distances between images: losses that are no likelihoods, beside one or in its place.

Each is a mean over the values of an image (or over its Fourier coefficients, or features of it), so that a weight means the same
at every size.

Shape legend: N = images, C = channel, H, W = pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from trainables.training.perceptual import Vgg16, perceptual
from trainables.training.spectral import SPECTRA
from trainables.training.ssim import ssim

Distance = Callable[[Tensor, Tensor], Tensor]


def l1(images: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference, [N]."""
    return (images - true).abs().flatten(1).mean(dim=1)


def dissimilarity(images: Tensor, true: Tensor) -> Tensor:
    """1 - SSIM, [N]."""
    return 1 - ssim(images, true)


def at_scales(distance: Distance, images: Tensor, true: Tensor, scales: int) -> Tensor:
    """Mean of a distance over so many scales, each of half the size of the one before (means of 2x2 pixels): [N]."""
    total = distance(images, true)
    for _ in range(scales - 1):
        images, true = F.avg_pool2d(images, 2), F.avg_pool2d(true, 2)
        total = total + distance(images, true)
    return total / scales


@dataclass(frozen=True)
class Distances:
    """The distances that a training takes, unweighted.

    Args:
        names: of `l1`, `dissimilarity`, `spectral` and `perceptual`.
        scales: of the first two.
        spectrum: of `SPECTRA`.
        vgg: for `perceptual`.
    """

    names: tuple[str, ...]
    scales: int = 1
    spectrum: str = "complex_l1"
    vgg: Vgg16 | None = None

    def __call__(self, images: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Of images [N, C, H, W] from true ones in [0, 1]: [N] each, 0 for equal images."""
        distances: dict[str, Distance] = {
            "l1": lambda a, b: at_scales(l1, a, b, self.scales),
            "dissimilarity": lambda a, b: at_scales(dissimilarity, a, b, self.scales),
            "spectral": SPECTRA[self.spectrum],
            "perceptual": self._perceptual,
        }
        return {name: distances[name](images, true) for name in self.names}

    def _perceptual(self, images: Tensor, true: Tensor) -> Tensor:
        assert self.vgg is not None
        return perceptual(self.vgg, images, true)
