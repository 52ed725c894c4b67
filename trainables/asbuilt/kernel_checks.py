"""Checks of measured kernels before a unit is fitted to them. Each refusal names the kernel, its channel and its position.

Shape legend: n = measured kernels, c = measured channels, K = kernel side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deeplens_workers.kernels import middle_channel
from trainables.asbuilt.data import GRID
from trainables.asbuilt.recentring import Border, centroid_of_light, recentred

if TYPE_CHECKING:
    from trainables.asbuilt.network import AsBuiltConfig

PEDESTAL = (-0.02, 0.1)
"""Lowest and highest norm of a pedestal, over the kernel's. Within these limits a triplet's unit is fitted as well as without a pedestal
(0.192 to 0.193; 0.28 with -0.1). The limits differ: light may reach all sides of a small window, but it is never negative."""
SIGNIFICANT = 5.0
"""Standard errors of a side's median. A pedestal that is smaller may be noise."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of the mean, of normal noise: the root of pi / 2."""
TIED = 4
"""Most pixels with the largest value: a symmetric kernel has four of them in the middle of an even side."""
ROUNDED = 1e-6
"""Relative rounding error of distances in float32."""
OFF_CENTRE = 1 / 5
"""Largest distance of the centroid from the window's middle, over the window's side: 6 of 32 pixels. A shift by more cuts off too much."""


class Checked(NamedTuple):
    """Measured kernels [n, c, K, K], centred, of unit sum per channel, float32 on the CPU."""

    kernels: Tensor
    channels: list[int]
    """Those of the model that theirs are."""
    noise: Tensor
    """[n] relative L2 of the noise in them, as the outermost pixels have it."""


def checked_points(config: AsBuiltConfig, points: ArrayLike | Tensor) -> Tensor:
    """Points [M, d], float32 on the CPU.

    Raises:
        ValueError: they have another shape, are not finite, lie outside [-1, 1], or have distances that the model was not trained for.
    """
    at, names = _tensor(points), config.conditions
    if at.ndim == 2 and not len(at):
        raise ValueError("there are no points")
    if at.ndim != 2 or at.shape[1] != len(names):
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
) -> Checked:
    """Kernels [n, c, K, K] as a unit is fitted to them.

    Raises:
        ValueError: they cannot be those of a unit of this model, or the channel by which kernels are centred is missing.
    """
    images, at = _tensor(kernels), checked_points(config, points)
    chosen = list(range(config.channels)) if channels is None else [int(one) for one in channels]
    middle = middle_channel(config.channels)
    _check_channels(config, chosen, middle)
    _check_numbers(config, images, at, len(chosen))
    for index, of_one in enumerate(images):
        for channel, image in enumerate(of_one):
            if (wrong := _wrong(image) or (_off_centre(image) if chosen[channel] == middle else None)) is not None:
                raise ValueError(f"kernels[{index}, {channel}] at ({_listed(at[index].tolist())}): {wrong}")
    noise = torch.tensor([[Border.of(image).noise for image in of_one] for of_one in images.double().numpy()])
    noise = config.kernel_px * noise / images.sum(dim=(-2, -1))  # of kernels of unit sum
    images = recentred(images, chosen.index(middle))
    images = images / images.sum(dim=(-2, -1), keepdim=True)
    return Checked(images, chosen, (noise.norm(dim=1) / images.flatten(1).norm(dim=1)).float())


def _check_channels(config: AsBuiltConfig, chosen: list[int], middle: int) -> None:
    if not chosen or len(set(chosen)) != len(chosen) or not set(chosen) <= set(range(config.channels)):
        raise ValueError(f"channels must be different ones of 0 to {config.channels - 1}, but got {chosen}")
    if middle not in chosen:
        colour = f", {config.wavelengths[middle]:g} um" if config.wavelengths else ""
        raise ValueError(
            f"channel {middle}{colour} must be measured, because kernels are centred by it, but got channels {chosen}"
        )


def _check_numbers(config: AsBuiltConfig, images: Tensor, at: Tensor, channels: int) -> None:
    """As many kernels [n, c, K, K] as points [n, d], all of them different, and no more than a model is trained to take."""
    side = config.kernel_px
    pixels = f"{side} x {side} pixels" + (f" of {config.pixel_um:g} um" if config.pixel_um else "")
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"kernels must be [n, {channels}, {side}, {side}], of {pixels} each, but got {_shape(images)}")
    if images.shape[2:] != (side, side):
        raise ValueError(f"kernels must have {pixels}, but got {images.shape[3]} x {images.shape[2]}")
    if not 1 <= len(images) <= GRID:
        raise ValueError(f"a unit is fitted to 1 to {GRID} kernels, but got {len(images)}")
    if len(images) != len(at):
        raise ValueError(f"each kernel needs a point, but got {len(images)} kernels and {len(at)} points")
    first: dict[tuple[float, ...], int] = {}
    for index, place in enumerate(map(tuple, at.tolist())):
        if (before := first.setdefault(place, index)) != index:
            raise ValueError(
                f"kernels[{before}] and kernels[{index}] are of the same point ({_listed(place)}); keep one, or their mean"
            )


def _wrong(image: Tensor) -> str | None:
    """What is wrong with a kernel [K, K] of one channel, in words."""
    if not bool(image.isfinite().all()):
        return f"{int((~image.isfinite()).sum())} pixels are not finite"
    light, side = float(image.sum()), len(image)
    if light <= 0:
        return f"no light: its pixels' sum is {light:g}"
    border, (low, high) = Border.of(image.double().numpy()), PEDESTAL
    error = MEDIAN_ERROR * border.noise / side**0.5
    share = border.pedestal * side / float(image.norm())
    if abs(border.pedestal) > SIGNIFICANT * error and not low <= share <= high:
        reason = "too much background was subtracted" if share < 0 else "background was not subtracted"
        return f"it stands on a pedestal of {border.pedestal:.3g} per pixel, {share:.0%} of its norm; {reason}"
    if (tied := int((image == image.max()).sum())) > TIED:
        return f"{tied} pixels share its largest value, {float(image.max()):g}: saturated, or of too few grey levels"
    return None


def _off_centre(image: Tensor) -> str | None:
    """How far a kernel [K, K] is off its middle, in words, if that is too far."""
    right, down = centroid_of_light(image.double().numpy())
    if float(np.hypot(right, down)) > (limit := OFF_CENTRE * len(image)):
        return (
            f"its centroid is {right:+.1f} pixels right and {down:+.1f} below its middle, and at most {limit:g} are allowed; "
            "cut it elsewhere"
        )
    return None


def _tensor(values: ArrayLike | Tensor) -> Tensor:
    """Any array as float32 on the CPU."""
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float32)
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _listed(point: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in point)


def _shape(array: Tensor) -> list[int]:
    return list(array.shape)
