"""Sharp images of blurred ones.

Shape legend: B = batch, C = channel, H, W = image pixels, R, S = rows and columns of patches, k = kernel side.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from trainables.imaging.borders import Border, Margin
from trainables.imaging.operators import Operator, check_size, linear
from trainables.imaging.patches import Layout, map_shape

TINY = 1e-7
"""Of the brightest light: less than that is nothing, by the rounding of float32."""


def richardson_lucy(operator: Operator, seen: Tensor, iterations: int = 20, start: Tensor | None = None) -> Tensor:
    """The most likely image [B, C, H, W], nowhere negative, behind a blurred one under Poisson noise, after some iterations.

    x <- x / (A* 1) . A*(y / (A x)). Each iteration has sum(A x) = sum(y): light is neither won nor lost. Noise grows with the iterations,
    so their number is what regularises; 10 to 50 are usual.

    Args:
        operator: A, which made the blurred image.
        seen: y, [B, C, H, W], linear light; what is negative is taken for black.
        start: where to begin; None: at A* y / (A* 1).

    Raises:
        ValueError: a negative number of iterations.

    Sources: Richardson 1972, Lucy 1974.
    """
    if iterations < 0:
        raise ValueError(f"`iterations >= 0` must hold, but got {iterations}")
    seen = seen.clamp_min(0)
    floor = TINY * float(seen.max())
    reach = operator.adjoint(torch.ones_like(seen))
    reached = reach > TINY * float(reach.max())
    reach = torch.where(reached, reach, 1)  # what no pixel sees stays as it was
    estimate = start.clamp_min(0) if start is not None else operator.adjoint(seen).clamp_min(0) / reach
    for _ in range(iterations):
        ratio = seen / operator(estimate).clamp_min(floor or 1)
        estimate = torch.where(reached, estimate * operator.adjoint(ratio).clamp_min(0) / reach, estimate)
    return estimate


def wiener(kernels: Tensor, seen: Tensor, noise: float = 1e-3, border: Border = "reflect") -> Tensor:
    """The image [B, C, H, W] with the least mean square error behind a blurred one, patch by patch; patches fade into each other.

    H* / (|H|^2 + noise |D|^2) in each patch, H being its kernel's transfer and |D|^2 that of the squared differences between neighbours: the
    Wiener filter for images whose differences between neighbours are white. Its result may be negative. Light is kept where the kernel sums to one.

    Args:
        kernels: [R, S, C, k, k], origin k // 2, of patches as of `PatchBlur`.
        seen: [B, C, H, W], linear light.
        noise: its variance over the mean square difference between neighbouring pixels of the sharp image.
        border: see `trainables.imaging.borders`.

    Raises:
        ValueError: noise that is not positive, or kernels that do not go with the image.
    """
    rows, columns, channels, side = map_shape(kernels)
    size = seen.shape[-2], seen.shape[-1]
    check_size(seen, channels, size)
    if not noise > 0:
        raise ValueError(f"`noise > 0` must hold, but got {noise:g}")
    fade = min(size[0] // rows, size[1] // columns) // 4
    # How far an edge of a window may ring into it; a small image has no more to mirror.
    ring = min(2 * side, max(side, min(size) - 1 - fade))
    cut, faded = Layout(size, (rows, columns), 2 * (fade + ring)), Layout(size, (rows, columns), 2 * fade)
    more = fade + ring
    windows = linear(cut.cut, cut.uncut, Margin(more, more, more, more, size, border).add(seen))
    periods = [next_fast_len(one, real=True) for one in windows.shape[-2:]]
    sharp = torch.fft.irfft2(torch.fft.rfft2(windows, s=periods) * _inverse(kernels, periods, noise), s=periods)
    # The kernel's origin is k // 2 and not 0.
    h, w = (one + 2 * fade for one in cut.largest)
    first = ring - side // 2
    sharp = sharp[..., first : first + h, first : first + w]
    share = [_fading(edges, fade).to(seen) for edges in faded.edges]
    sharp = (
        sharp.unflatten(1, (rows, columns, channels)) * share[0][:, None, None, :, None] * share[1][:, None, None, :]
    )
    whole = linear(faded.uncut, faded.cut, sharp.flatten(1, 3))
    return whole[..., fade : fade + size[0], fade : fade + size[1]]


def _inverse(kernels: Tensor, periods: list[int], noise: float) -> Tensor:
    """Transfers [R S C, ...] of the inverse filters, for transforms of so many pixels."""
    transfer = torch.fft.rfft2(kernels.flatten(0, 2), s=periods)
    down, along = torch.fft.fftfreq(periods[0]), torch.fft.rfftfreq(periods[1])
    differences = 4 * (torch.pi * down).sin().square()[:, None] + 4 * (torch.pi * along).sin().square()
    inverse: Tensor = transfer.conj() / (transfer.abs().square() + noise * differences.to(kernels))
    return inverse


def _fading(edges: list[int], fade: int) -> Tensor:
    """Shares [patches, largest + 2 fade] of each patch in the pixels from `fade` before its first one on; those of all patches sum to one."""
    largest = max(b - a for a, b in pairwise(edges))
    at = torch.arange(largest + 2 * fade) - fade + 0.5
    shares = torch.ones(len(edges) - 1, len(at))
    if fade == 0:
        return shares
    for i, (first, end) in enumerate(pairwise(edges)):
        if first > 0:
            shares[i] *= ((at + fade) / (2 * fade)).clamp(0, 1)
        if end < edges[-1]:
            shares[i] *= ((end - first + fade - at) / (2 * fade)).clamp(0, 1)
    return shares
