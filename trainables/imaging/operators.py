"""Linear maps of images, each with its adjoint.

Shape legend: B = batch, C = channel, H, W = image pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class Operator(Protocol):
    """A linear map A of images [B, C, H, W] of one size. <A x, y> = <x, A* y> for all images x, y, borders included."""

    def __call__(self, image: Tensor) -> Tensor:
        """A x, [B, C, H, W], differentiable."""
        ...

    def adjoint(self, image: Tensor) -> Tensor:
        """A* y, [B, C, H, W], differentiable."""
        ...


class Chain:
    """One operator after another: the first one is applied first."""

    def __init__(self, *operators: Operator) -> None:
        self.operators = operators

    def __call__(self, image: Tensor) -> Tensor:
        for one in self.operators:
            image = one(image)
        return image

    def adjoint(self, image: Tensor) -> Tensor:
        for one in reversed(self.operators):
            image = one.adjoint(image)
        return image


def linear(forward: Map, transpose: Map, values: Tensor) -> Tensor:
    """`forward` of the values, with `transpose` as its derivative, that of the derivative being `forward` again.

    For maps without parameters that are faster, or that autograd differentiates only once.
    """
    found: Tensor = _Linear.apply(forward, transpose, values)
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Map, transpose: Map, values: Tensor) -> Tensor:
        ctx.maps = forward, transpose
        return forward(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        forward, transpose = ctx.maps
        return None, None, linear(transpose, forward, gradients[0])


def check_size(image: Tensor, channels: int, size: tuple[int, int]) -> None:
    """
    Raises:
        ValueError: not an image [B, C, H, W] of an operator's channels and size.
    """
    if image.ndim != 4 or tuple(image.shape[1:]) != (channels, *size):
        raise ValueError(f"an image is [B, {channels}, {size[0]}, {size[1]}] here, but got {list(image.shape)}")
