"""An image blurred patch by patch: each patch of the image has a kernel of its own.

Shape legend: B = batch, C = channel, H, W = image pixels, R, S = rows and columns of patches, k = kernel side, h, w = rows and columns of the
largest patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from trainables.imaging.borders import Border, Margin
from trainables.imaging.operators import check_size, linear


class PatchBlur:
    """Each pixel of the blurred image is made with the kernel of the patch that it is in.

    Patch (i, j) of R x S has the rows i H // R to (i + 1) H // R and columns likewise, so any grid goes with any size; its middle is about
    at x = (2 j + 1) / S - 1, y = 1 - (2 i + 1) / R. The image is padded once and as a whole, so kernels may be larger than patches. This
    is what `deeplens.imgsim.psf.conv_psf_map` computes.

    Patches are convolved by Fourier transforms: direct ones in groups are a quarter faster forwards for k = 15, but nine times slower with gradients of
    the kernels, and their time rises with k^2. Black stays black to within 1e-7 of the brightest light.

    Args:
        kernels: [R, S, C, k, k], odd or even, origin k // 2. They may carry gradients; make another `PatchBlur` for each step then.
        size: (H, W) of the images.
        border: see `trainables.imaging.borders`.

    Raises:
        ValueError: not a map of kernels, more patches than pixels, or a border that does not go with them.
    """

    def __init__(self, kernels: Tensor, size: tuple[int, int], border: Border = "reflect") -> None:
        rows, columns, self.channels, side = map_shape(kernels)
        self.size = size
        before, after = (side - 1) // 2, side // 2
        self._margin = Margin(before, after, before, after, size, border)
        self._layout = Layout(size, (rows, columns), side - 1)
        self._periods = [next_fast_len(one + side - 1, real=True) for one in self._layout.largest]
        self._transfer = torch.fft.rfft2(kernels.flatten(0, 2), s=self._periods)

    def __call__(self, image: Tensor) -> Tensor:
        check_size(image, self.channels, self.size)
        layout = self._layout
        windows = linear(layout.cut, layout.uncut, self._margin.add(image))
        whole = torch.fft.irfft2(torch.fft.rfft2(windows, s=self._periods) * self._transfer, s=self._periods)
        h, w = layout.largest
        more = layout.more
        return linear(layout.join, layout.split, whole[..., more : more + h, more : more + w])

    def adjoint(self, image: Tensor) -> Tensor:
        """Each patch correlated with its kernel, overlaps added up, borders folded back."""
        check_size(image, self.channels, self.size)
        layout = self._layout
        placed = F.pad(linear(layout.split, layout.join, image), (layout.more, 0, layout.more, 0))
        whole = torch.fft.irfft2(torch.fft.rfft2(placed, s=self._periods) * self._transfer.conj(), s=self._periods)
        windows = whole[..., : placed.shape[-2], : placed.shape[-1]]
        return self._margin.fold(linear(layout.uncut, layout.cut, windows))


@dataclass(frozen=True)
class Layout:
    """Where patches lie in an image, and windows, `more` pixels larger, in the padded image.

    Patches and windows are [B, R S C, ...]: those of different sizes, which differ by a pixel, are filled up with zeros.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    more: int

    def __post_init__(self) -> None:
        if any(count > pixels for count, pixels in zip(self.grid, self.size, strict=True)):
            raise ValueError(
                f"{self.grid[0]} x {self.grid[1]} patches are more than the {self.size[0]} x {self.size[1]} pixels of the image"
            )

    @cached_property
    def edges(self) -> tuple[list[int], list[int]]:
        """First rows and columns of patches, and the image's end."""
        rows, columns = (
            [i * pixels // count for i in range(count + 1)] for count, pixels in zip(self.grid, self.size, strict=True)
        )
        return rows, columns

    @cached_property
    def largest(self) -> tuple[int, int]:
        """Rows and columns (h, w) of the largest patch."""
        rows, columns = (-(-pixels // count) for count, pixels in zip(self.grid, self.size, strict=True))
        return rows, columns

    def _slices(self, more: int) -> list[list[tuple[slice, slice]]]:
        rows, columns = ([slice(a, b + more) for a, b in pairwise(edges)] for edges in self.edges)
        return [[(row, column) for column in columns] for row in rows]

    def _out_of(self, image: Tensor, more: int) -> Tensor:
        batch, channels = image.shape[:2]
        rows, columns = self.grid
        h, w = self.largest
        parts = image.new_zeros(batch, rows, columns, channels, h + more, w + more)
        for i, row in enumerate(self._slices(more)):
            for j, (down, along) in enumerate(row):
                part = image[..., down, along]
                parts[:, i, j, :, : part.shape[-2], : part.shape[-1]] = part
        return parts.flatten(1, 3)

    def _into(self, parts: Tensor, more: int) -> Tensor:
        height, width = self.size
        split = parts.unflatten(1, (*self.grid, -1))
        image = parts.new_zeros(parts.shape[0], split.shape[3], height + more, width + more)
        for i, row in enumerate(self._slices(more)):
            for j, (down, along) in enumerate(row):
                place = image[..., down, along]
                place += split[:, i, j, :, : place.shape[-2], : place.shape[-1]]
        return image

    def cut(self, padded: Tensor) -> Tensor:
        """[B, C, H + more, W + more] -> windows [B, R S C, h + more, w + more]."""
        return self._out_of(padded, self.more)

    def uncut(self, windows: Tensor) -> Tensor:
        """Its adjoint: windows, which overlap, are added up."""
        return self._into(windows, self.more)

    def split(self, image: Tensor) -> Tensor:
        """[B, C, H, W] -> patches [B, R S C, h, w]."""
        return self._out_of(image, 0)

    def join(self, patches: Tensor) -> Tensor:
        """Its adjoint and, but for what patches were filled up with, its inverse."""
        return self._into(patches, 0)


def map_shape(kernels: Tensor) -> tuple[int, int, int, int]:
    """Rows, columns, channels and side of a map of kernels.

    Raises:
        ValueError: another shape.
    """
    if kernels.ndim != 5 or kernels.shape[-1] != kernels.shape[-2] or not kernels.numel():
        raise ValueError(f"a map of kernels is [rows, columns, C, k, k], but got {list(kernels.shape)}")
    rows, columns, channels, side, _ = kernels.shape
    return rows, columns, channels, side
