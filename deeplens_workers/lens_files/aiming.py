"""Rays aimed at the stop of a centred lens: chief rays, the light cone on the axis, and what openings must let through.

F = field point, S = point of the stop, A = surface. Objects lie in the meridional plane x = 0, lengths are in mm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.lens_files.ray_optics import Lens

Array = NDArray[np.float64]

NEWTON_STEPS = 5
# From field to field, each begun from the one before.
FIELD_STEPS = 9
# An aimed ray passes the stop this near to its target, in stop radii.
ON_TARGET = 1e-3


def from_object(start: Array, height: float, object_mm: float) -> Array:
    """Directions [R, 3] of rays from an object at (0, height, -object_mm) through points [R, 2] of the plane z = 0."""
    direction = np.column_stack([start[:, 0], start[:, 1] - height, np.full(len(start), object_mm)])
    return np.asarray(direction / np.linalg.norm(direction, axis=1, keepdims=True))


def aim(lens: Lens, object_mm: float, heights: Array, targets: Array, radius: float) -> Array:
    """Where rays cross the plane z = 0 that meet points of the stop, [F, S, 2]; NaN for those that cannot.

    Args:
        heights: [F] of the objects, rising slowly from 0: each field is begun from the one before.
        targets: [S, 2] points of the stop.
        radius: of the stop.
    """
    a, b = (lens.paraxial(*ray, last=lens.stop)[0] for ray in ((1.0, 0.0), (0.0, 1.0)))
    with np.errstate(all="ignore"):
        gain = a + b / object_mm  # of the height at the stop over that at z = 0, for rays of one object point
        shift = b / object_mm / gain  # of the chief ray at z = 0 over the object's height
    guess = targets / gain
    found: list[Array] = []
    for i, height in enumerate(heights):
        if i == 1:
            guess = found[0] + np.array([0.0, shift * (height - heights[0])])
        elif i > 1:
            guess = found[-1] + (found[-1] - found[-2]) * (height - heights[i - 1]) / (heights[i - 1] - heights[i - 2])
        found.append(_newton(lens, object_mm, height, targets, guess, radius))
    return np.stack(found)


def _newton(lens: Lens, object_mm: float, height: float, targets: Array, guess: Array, radius: float) -> Array:
    step = 1e-4 * radius
    offsets = np.array([[0.0, 0.0], [step, 0.0], [0.0, step]])
    point = guess
    for _ in range(NEWTON_STEPS):
        probes = (point[:, None] + offsets).reshape(-1, 2)
        met, _ = lens.trace(probes, from_object(probes, height, object_mm), clip=False, last=lens.stop)
        at, along_x, along_y = met[-1].reshape(-1, 3, 2).transpose(1, 0, 2)
        miss = at - targets
        (xx, yx), (xy, yy) = ((along_x - at) / step).T, ((along_y - at) / step).T
        with np.errstate(all="ignore"):
            det = xx * yy - xy * yx
            move = np.stack([yy * miss[:, 0] - xy * miss[:, 1], xx * miss[:, 1] - yx * miss[:, 0]], axis=1)
            point = point - move / det[:, None]
    met, _ = lens.trace(point, from_object(point, height, object_mm), clip=False, last=lens.stop)
    with np.errstate(invalid="ignore"):
        near = np.hypot(*(met[-1] - targets).T) < ON_TARGET * radius
    return np.asarray(np.where(near[:, None], point, np.nan))


def chief_height(lens: Lens, object_mm: float, height: float, radius: float) -> float:
    """Distance from the axis at which the chief ray of an object at `height` meets the sensor; NaN if it cannot."""
    heights = np.linspace(0.0, height, FIELD_STEPS)
    start = aim(lens, object_mm, heights, np.zeros((1, 2)), radius)[-1]
    _, sensor = lens.trace(start, from_object(start, height, object_mm), clip=False)
    return float(np.hypot(*sensor[0]))


def axial_cone(lens: Lens, object_mm: float, radius: float) -> float:
    """Height at z = 0 of the outermost ray from the axial object that passes all openings; NaN if none does."""
    a, b = (lens.paraxial(*ray, last=lens.stop)[0] for ray in ((1.0, 0.0), (0.0, 1.0)))
    gain = abs(a + b / object_mm)
    low, high = 0.0, 4 * radius / gain if gain else np.nan
    for count in (401, 21, 21, 21, 21):
        heights = np.linspace(low, high, count)
        start = np.stack([np.zeros(count), heights], axis=1)
        _, sensor = lens.trace(start, from_object(start, 0.0, object_mm))
        lost = np.isnan(sensor[:, 0])
        if lost[0]:
            return float("nan")
        first = int(lost.argmax()) if lost.any() else count - 1
        low, high = heights[first - 1], heights[first]
    return float(low)


def envelope(lenses: list[Lens], object_mm: float, heights: Array, radius: float) -> Array:
    """Largest height [A] at which light of these object heights crosses each surface; NaN where none does.

    Args:
        lenses: the lens at each wavelength, the primary first, with the openings that clip.
    """
    angles = np.linspace(0, np.pi, 9)
    rim = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    targets = np.concatenate([share * 0.9999 * radius * rim for share in (0.02, 0.4, 0.7, 0.9, 1.0)])
    start = aim(lenses[0], object_mm, heights, targets, radius)
    largest = np.full(len(lenses[0].surfaces), np.nan)
    for lens in lenses:
        for points, height in zip(start, heights, strict=True):
            met, sensor = lens.trace(points, from_object(points, height, object_mm))
            reached = met[:, ~np.isnan(sensor[:, 0])]
            if reached.shape[1]:
                largest = np.fmax(largest, np.hypot(reached[..., 0], reached[..., 1]).max(axis=1))
    return largest
