"""Special functions of the likelihoods' normalisers, exact and with finite gradients at every argument; any shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SERIES_BELOW = 0.25
"""Under this the closed forms below lose digits to cancellation, and their series are exact to 1e-8."""


def log_sinh_ratio(h: Tensor) -> Tensor:
    """log(sinh(h) / h); even in h."""
    small = h.abs() < SERIES_BELOW
    square = torch.where(small, h, 0).square()
    series = square * (1 / 6 - square * (1 / 180 - square / 2835))
    large = torch.where(small, 1, h.abs())
    return torch.where(small, series, large + torch.log(-torch.expm1(-2 * large)) - torch.log(2 * large))


def langevin(h: Tensor) -> Tensor:
    """coth(h) - 1 / h, any shape: the derivative of `log_sinh_ratio`; odd in h, in (-1, 1)."""
    small = h.abs() < SERIES_BELOW
    square = h.square()
    series = h * (1 / 3 - square * (1 / 45 - square * 2 / 945))
    large = torch.where(small, 1, h)
    return torch.where(small, series, 1 / large.tanh() - 1 / large)


class _LogScaledK1(torch.autograd.Function):
    """log(e^x K1(x)), which PyTorch has no derivative for."""

    generate_vmap_rule = True
    """Trainings that are batched have it too."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        k1: Tensor = torch.special.scaled_modified_bessel_k1(x)
        return k1.log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        ratio = torch.special.scaled_modified_bessel_k0(x) / torch.special.scaled_modified_bessel_k1(x)
        derivative: Tensor = 1 - ratio - 1 / x
        return gradient * derivative


def log_scaled_k1(x: Tensor) -> Tensor:
    """log(e^x K1(x)) of the modified Bessel function of the second kind at x > 0."""
    value: Tensor = _LogScaledK1.apply(x)
    return value
