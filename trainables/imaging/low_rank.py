"""An image blurred by kernels that are sums of a few, with weights that change smoothly over the image.

Shape legend: B = batch, C = channel, H, W = image pixels, R, S = rows and columns of the map, k = kernel side, Q = rank.
"""

from __future__ import annotations

from typing import Literal

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from trainables.imaging.borders import Border, Margin
from trainables.imaging.operators import check_size
from trainables.imaging.patches import map_shape

Smooth = Literal["bilinear", "bicubic"]


class LowRankBlur:
    """Each pixel q is made with the kernel sum_r w_r(q) B_r: no seams, whatever the grid.

    Of each channel's map B are the first right singular vectors, and w the kernels' products with them, brought to the kernels' own sums
    and interpolated over the image. Each B is a convolution of the whole image by Fourier transforms, so time rises with the rank and
    hardly with k. Source: Lauer 2002, "Deconvolution with a spatially-variant PSF".

    Args:
        kernels: [R, S, C, k, k], at the middles of patches as of `PatchBlur`, origin k // 2. Gradients reach them through the weights;
            the B are taken as constant.
        size: (H, W) of the images.
        rank: Q, or as many as there are.
        border: see `trainables.imaging.borders`.
        smooth: how weights are interpolated.

    Raises:
        ValueError: not a map of kernels, a rank below 1, or a border that does not go with them.
    """

    def __init__(
        self,
        kernels: Tensor,
        size: tuple[int, int],
        rank: int = 8,
        border: Border = "reflect",
        smooth: Smooth = "bicubic",
    ) -> None:
        rows, columns, self.channels, side = map_shape(kernels)
        if rank < 1:
            raise ValueError(f"`rank >= 1` must hold, but got {rank}")
        self.size, self.smooth = size, smooth
        before, after = (side - 1) // 2, side // 2
        self._margin = Margin(before, after, before, after, size, border)
        self._more = side - 1
        self._periods = [next_fast_len(one + side - 1, real=True) for one in size]
        flat = kernels.flatten(3).flatten(0, 1).transpose(0, 1)  # [C, R S, k k]
        basis = torch.linalg.svd(flat.detach(), full_matrices=False)[2][:, :rank]
        weights = flat @ basis.mT
        light = flat.sum(-1, keepdim=True) / (weights @ basis.sum(-1, keepdim=True))
        self._weights = (weights * light).mT.unflatten(2, (rows, columns)).transpose(0, 1)  # [Q, C, R, S]
        self._transfer = torch.fft.rfft2(basis.unflatten(2, (side, side)).transpose(0, 1), s=self._periods)

    def __call__(self, image: Tensor) -> Tensor:
        check_size(image, self.channels, self.size)
        spectrum = torch.fft.rfft2(self._margin.add(image), s=self._periods)
        (height, width), more = self.size, self._more
        total = torch.zeros_like(image)
        for weights, transfer in zip(self._weights, self._transfer, strict=True):
            whole = torch.fft.irfft2(spectrum * transfer, s=self._periods)
            total = total + self._spread(weights) * whole[..., more : more + height, more : more + width]
        return total

    def adjoint(self, image: Tensor) -> Tensor:
        """Weighted, correlated with each B, added up, borders folded back."""
        check_size(image, self.channels, self.size)
        (height, width), more = self.size, self._more
        spectrum: Tensor | float = 0.0
        for weights, transfer in zip(self._weights, self._transfer, strict=True):
            placed = F.pad(self._spread(weights) * image, (more, 0, more, 0))
            spectrum = spectrum + torch.fft.rfft2(placed, s=self._periods) * transfer.conj()
        whole = torch.fft.irfft2(spectrum, s=self._periods)
        return self._margin.fold(whole[..., : height + more, : width + more])

    def _spread(self, weights: Tensor) -> Tensor:
        """Of a map [C, R, S], over the image: [C, H, W]. One at a time: all of them would be Q images."""
        return F.interpolate(weights[None], self.size, mode=self.smooth, align_corners=False)[0]
