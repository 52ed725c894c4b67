"""Checks of measured kernels before a unit is fitted to them. Each refusal names the kernel, its channel and its position.

Shape legend: n = measured kernels, c = measured channels, K = kernel side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from trainables.asbuilt.data import GRID
from trainables.psf.metrics import centroid

if TYPE_CHECKING:
    from trainables.asbuilt.network import AsBuiltConfig

NEGATIVE = 0.05
"""Most light that pixels below zero may have, of all: noise about a background that was subtracted has less."""
TIED = 4
"""Most pixels with the largest value: a symmetric kernel has four of them in the middle of an even side."""
ROUNDED = 1e-6
"""Relative, of distances in float32."""
OFF_CENTRE = 1 / 5
"""Of a kernel's side, that its centroid may be off its middle: 6 of 32 pixels, and units of a triplet have 2.8 at the most."""


def checked_points(config: AsBuiltConfig, points: ArrayLike | Tensor) -> Tensor:
    """Points [M, d], float32 on the CPU.

    Raises:
        ValueError: another shape, not finite, outside [-1, 1], or at distances that the model was not trained for.
    """
    at, names = _tensor(points), config.conditions
    if at.ndim != 2 or at.shape[1] != len(names) or not len(at):
        each = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ValueError(f"points must be [M, {len(names)}], {each} of each, but got {_shape(at)}")
    for index, (x, y, *distances) in enumerate(at.tolist()):
        if not (-1 <= x <= 1 and -1 <= y <= 1):
            raise ValueError(f"points[{index}]: x and y must lie in [-1, 1], but got ({x:g}, {y:g})")
        for (name, ends), distance in zip(config.diopter_ranges.items(), distances, strict=True):
            far, near = (-1000 / vergence for vergence in ends)
            if not far * (1 + ROUNDED) <= distance <= near * (1 - ROUNDED):
                raise ValueError(f"points[{index}]: {name} must lie in [{far:g}, {near:g}], but got {distance:g}")
    return at


def checked_kernels(
    config: AsBuiltConfig, kernels: ArrayLike | Tensor, points: ArrayLike | Tensor, channels: Sequence[int] | None
) -> tuple[Tensor, list[int]]:
    """Kernels [n, c, K, K] of unit sum per channel, float32 on the CPU, and which channels of the model theirs are.

    Raises:
        ValueError: they cannot be those of a unit of this model.
    """
    images, at = _tensor(kernels), checked_points(config, points)
    chosen = list(range(config.channels)) if channels is None else [int(one) for one in channels]
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(config.channels)):
        raise ValueError(f"channels must be different ones of 0 to {config.channels - 1}, but got {chosen}")
    side = config.kernel_px
    pixels = f"{side} x {side} pixels" + (f" of {config.pixel_um:g} um" if config.pixel_um else "")
    if images.ndim != 4 or images.shape[1] != len(chosen):
        raise ValueError(
            f"kernels must be [n, {len(chosen)}, {side}, {side}], of {pixels} each, but got {_shape(images)}"
        )
    if images.shape[2:] != (side, side):
        raise ValueError(f"kernels must have {pixels}, but got {images.shape[3]} x {images.shape[2]}")
    if not 1 <= len(images) <= GRID:
        raise ValueError(f"a unit is fitted to 1 to {GRID} kernels, but got {len(images)}; leave some out")
    if len(images) != len(at):
        raise ValueError(f"each kernel needs a point, but got {len(images)} kernels and {len(at)} points")
    for index, of_one in enumerate(images):
        for channel, image in enumerate(of_one):
            if (wrong := _wrong(image)) is not None:
                place = ", ".join(f"{value:g}" for value in at[index].tolist())
                raise ValueError(f"kernels[{index}, {channel}] at ({place}): {wrong}")
    return images / images.sum(dim=(-2, -1), keepdim=True), chosen


def _wrong(image: Tensor) -> str | None:
    """What is wrong with a kernel [K, K] of one channel."""
    if not bool(image.isfinite().all()):
        return f"{int((~image.isfinite()).sum())} pixels are not finite"
    light = float(image.sum())
    if light <= 0:
        return f"no light: its pixels' sum is {light:g}"
    if (negative := -float(image.clamp_max(0).sum())) > NEGATIVE * light:
        return (
            f"pixels below zero have {negative / light:.0%} of its light, at most {NEGATIVE:.0%} may be noise; "
            "too much background was subtracted"
        )
    if (tied := int((image == image.max()).sum())) > TIED:
        return f"{tied} pixels share its largest value, {float(image.max()):g}: saturated, or of too few grey levels"
    off = centroid(image[None, None])[0, 0]
    if float(off.norm()) > (limit := OFF_CENTRE * len(image)):
        return (
            f"its centroid is {off[0]:+.1f} pixels right and {off[1]:+.1f} below its middle, at most {limit:g} are expected; "
            "cut elsewhere"
        )
    return None


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    """Of any array, float32 on the CPU."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float32)
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _shape(array: Tensor) -> list[int]:
    return list(array.shape)
