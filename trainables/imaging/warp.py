"""Images resampled at other places: distortion.

Shape legend: B = batch, C = channel, H, W = image pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.imaging.borders import Border
from trainables.imaging.operators import linear
from trainables.networks.gaussian import at_least_float32

BORDERS: dict[Border, str] = {"reflect": "reflection", "replicate": "border", "zero": "zeros"}
"""As grid_sample calls them. Its mirror is at the image's edges, not at the centres of its outermost pixels."""


def pixel_places(size: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    """Places [H, W, 2] of the centres of an image's pixels, (x right, y up), the image's edges at -1 and 1."""
    y, x = ((2 * torch.arange(n, dtype=dtype) + 1) / n - 1 for n in size)
    return torch.stack(torch.meshgrid(x, -y, indexing="xy"), dim=-1)


class Warp:
    """Each pixel takes what the image has at its source place.

    For a distorted picture of an ideal one, pixel q of the sensor has its source at the ideal image point that is seen there. Differentiable
    in the image and, forwards, in the places.

    Args:
        places: [H, W, 2] sources, (x right, y up), the image's edges at -1 and 1.
        border: of the image, for places beyond it.
        mode: interpolation between pixels; bilinear loses some contrast at the finest detail, bicubic may go below 0.

    Raises:
        ValueError: places of another shape, or no such border.
    """

    def __init__(
        self, places: Tensor, border: Border = "replicate", mode: Literal["bilinear", "bicubic"] = "bilinear"
    ) -> None:
        if places.ndim != 3 or places.shape[-1] != 2:
            raise ValueError(f"places are [H, W, 2], but got {list(places.shape)}")
        if border not in BORDERS:
            raise ValueError(f"a border is one of {', '.join(BORDERS)}, but got {border!r}")
        self.places, self.border, self.mode = places, border, mode

    def __call__(self, image: Tensor) -> Tensor:
        self._check(image)
        return self._sampled(image)

    def adjoint(self, image: Tensor) -> Tensor:
        """Each pixel's value goes to the pixels that it would be taken from, with the same weights."""
        self._check(image)
        return linear(self._transposed, self._sampled, image)

    def _check(self, image: Tensor) -> None:
        if image.ndim != 4 or image.shape[-2:] != self.places.shape[:2]:
            raise ValueError(
                f"an image is [B, C, {', '.join(map(str, self.places.shape[:2]))}] here, but got {list(image.shape)}"
            )

    def _sampled(self, image: Tensor) -> Tensor:
        values = at_least_float32(image)  # else a place would be known to half a pixel
        down = (self.places * self.places.new_tensor([1.0, -1.0])).to(values)  # grid_sample's y points down
        grid = down.expand(len(image), *down.shape)
        found = F.grid_sample(values, grid, mode=self.mode, padding_mode=BORDERS[self.border], align_corners=False)
        return found.to(image.dtype)

    def _transposed(self, image: Tensor) -> Tensor:
        with torch.enable_grad():
            source = torch.zeros_like(image, requires_grad=True)
            found = self._sampled(source)
        return torch.autograd.grad(found, source, image)[0]
