"""Distances between the Fourier coefficients of images.

The transform is unitary ("ortho"), so the mean square of coefficients is that of pixels (Parseval): a spectral L2 would be the
mean squared error again. An L1 of complex differences is small where phases agree; where they are unknown its best guess is blurred
as well. Magnitudes alone are not.

Shape legend: N = images, C = channel, H, W = pixels, V = W // 2 + 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLOOR = 1e-2
"""Of magnitudes before their logarithm: nine times what rounding to 256 levels adds to each."""


def coefficients(images: Tensor) -> Tensor:
    """The half spectrum of real images, complex: [N, C, H, W] -> [N, C, H, V]; the other half are conjugates."""
    found: Tensor = torch.fft.rfft2(images, norm="ortho")
    return found


def shares(height: int, width: int, like: Tensor) -> Tensor:
    """What each coefficient of the half spectrum counts in a mean over the whole one, [1, V]; sums to one over H rows.

    Columns that have a conjugate in the other half count twice: all but the first and, of even widths, the last.
    """
    counts = like.new_full((1, width // 2 + 1), 2.0)
    counts[:, 0] = 1.0
    if width % 2 == 0:
        counts[:, -1] = 1.0
    return counts / (height * width)


def mean_over_spectrum(values: Tensor, width: int) -> Tensor:
    """Mean over the whole spectrum and the channels of values of the half spectrum, [N, C, H, V] -> [N]."""
    return (values * shares(values.shape[-2], width, values)).sum(dim=(-2, -1)).mean(dim=1)


def complex_l1(images: Tensor, true: Tensor) -> Tensor:
    """Mean modulus of the coefficients' difference, [N]: the term of "VAE Changelog"."""
    return mean_over_spectrum(coefficients(images - true).abs(), images.shape[-1])


def radial(images: Tensor, true: Tensor) -> Tensor:
    """`complex_l1`, each coefficient weighted by its spatial frequency over the mean one, [N]: fine detail counts more."""
    height, width = images.shape[-2:]
    like = {"dtype": images.dtype, "device": images.device}
    frequency = torch.hypot(torch.fft.fftfreq(height, **like)[:, None], torch.fft.rfftfreq(width, **like))
    mean = (frequency * shares(height, width, frequency)).sum()
    return mean_over_spectrum(coefficients(images - true).abs() * (frequency / mean), width)


def log_magnitude(images: Tensor, true: Tensor) -> Tensor:
    """Mean absolute difference of the magnitudes' logarithms, [N]: how much detail there is, not where."""
    width = images.shape[-1]
    first, second = (_log_magnitude(coefficients(one)) for one in (images, true))
    return mean_over_spectrum((first - second).abs(), width)


def _log_magnitude(values: Tensor) -> Tensor:
    square = values.real.square() + values.imag.square()  # whose square root has no gradient at 0
    return 0.5 * (square + FLOOR**2).log()


SPECTRA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "complex_l1": complex_l1,
    "log_magnitude": log_magnitude,
    "radial": radial,
}
"""Each takes images [N, C, H, W] in [0, 1]."""
