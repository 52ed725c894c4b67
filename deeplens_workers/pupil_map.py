"""Where rays land as a smooth function of where they cross the pupil.

A few hundred rays on a grid over half the pupil of a centred lens, and bicubic interpolation between them, stand for all
the rays of a field point at any azimuth: a lens is smooth, its apertures are not. So the grid is traced as if no aperture
stopped a ray, along with the rays' heights at every aperture, and each interpolated ray is tested against those.

Every map is checked against rays traced between its grid points. Where it is off, or a ray beyond an aperture cannot be
traced, there is no map, and the caller traces each ray.

M = bundle (one object point on the +x axis, one wavelength), A = aperture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.raytrace import RayTracer
from deeplens_workers.sampling import in_disc, sobol
from deeplens_workers.splat import BLOCKED, interpolate

Array = NDArray[np.float64]

# Columns and traced rows of the grid; two more rows mirror the first. The product plus CHECKS is a multiple of 64, so that
# torch's vector code meets every bundle alike. The grid reaches 1.5 steps beyond the rim, for the cells that it cuts.
COLUMNS, ROWS, CHECKS = 32, 16, 64
STEP = 2 / (COLUMNS - 4)
TOLERANCE_PX = 0.01


@dataclass(frozen=True)
class PupilMaps:
    """Maps of M bundles, for `splat_map`. `usable` [M] tells which may be used.

    hits: [M, ny, nx, 2] float32, sensor positions in pixels from the bundle's kernel centre.
    heights: [M, A, ny, nx] float32, squared, 1 at the aperture's edge.
    flags: [M, ny, nx] uint32 of the cells.
    """

    hits: NDArray[np.float32]
    heights: NDArray[np.float32]
    flags: NDArray[np.uint32]
    usable: NDArray[np.bool_]
    stop_crossing: Array
    """[M] x of the pupil point on the meridional plane whose ray passes nearest the stop's centre."""


def _grid() -> Array:
    """[ROWS * COLUMNS + CHECKS, 2] pupil points: the grid's, row by row, then those that check it."""
    x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * STEP
    y = (np.arange(ROWS) + 0.5) * STEP
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    checks = in_disc(sobol(CHECKS) / 2.0**32)
    return np.concatenate([grid, np.stack([checks[:, 0], np.abs(checks[:, 1])], axis=-1)])


GRID = _grid()


def trace_maps(tracer: RayTracer, objects: Array, wavelengths_um: Array) -> PupilMaps:
    """Maps of bundles from objects [M, 3] with y = 0 and x >= 0; hits are relative to the optical axis.

    Args:
        wavelengths_um: [M].
    """
    pupil = np.broadcast_to(GRID, (len(objects), *GRID.shape))
    positions, squared, stop_x = tracer.beyond_apertures(objects, pupil, wavelengths_um)
    count = ROWS * COLUMNS
    positions /= tracer.pixel_mm
    hits = positions[:, :count].reshape(-1, ROWS, COLUMNS, 2)
    mirrored = np.concatenate([hits[:, 1::-1] * [1, -1], hits], axis=1).astype(np.float32)
    heights = squared[:, :, :count].reshape(*squared.shape[:2], ROWS, COLUMNS)
    heights = np.concatenate([heights[:, :, 1::-1], heights], axis=2)
    flags, broken = _flags(heights)
    maps = PupilMaps(mirrored, heights, flags, ~broken, _zero_crossing(stop_x[:, :count].reshape(-1, ROWS, COLUMNS)))
    maps.usable[:] &= _accurate(maps, positions[:, count:])
    return maps


def _flags(heights: NDArray[np.float32]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Flags [M, ny, nx] of the cells, and whether a cell that passes light lacks a node of its interpolation, [M]."""
    with np.errstate(invalid="ignore"):
        inside, unknown = heights <= 1.0, np.isnan(heights).any(axis=1)
    passes_all = _around(inside, np.logical_and)
    blocked = ~_around(inside, np.logical_or).all(axis=1)
    bits = np.uint32(1) << np.arange(heights.shape[1], dtype=np.uint32)
    flags = np.where(passes_all, np.uint32(0), bits[:, None, None]).sum(axis=1, dtype=np.uint32)
    beyond_rim = _beyond_rim()
    flags[blocked | beyond_rim] = BLOCKED
    broken = (_around(unknown[:, None], np.logical_or)[:, 0] & (flags != BLOCKED)).any(axis=(1, 2))
    return flags, broken


def _around(nodes: NDArray[np.bool_], combine: Any) -> NDArray[np.bool_]:
    """Combine over the 4 x 4 nodes that interpolate each cell; cells without all of them are combined from what is there."""
    for axis in (2, 3):
        padded = np.pad(nodes, [(1, 2) if i == axis else (0, 0) for i in range(4)], mode="edge")
        size = nodes.shape[axis]
        parts = [np.take(padded, range(start, start + size), axis=axis) for start in range(4)]
        nodes = combine.reduce(parts)
    return nodes


def _beyond_rim() -> NDArray[np.bool_]:
    """[ny, nx] cells wholly outside the unit disc."""
    x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * STEP
    y = (np.arange(ROWS + 2) - 1.5) * STEP
    nearest_x = np.where((x < 0) & (x + STEP > 0), 0.0, np.minimum(np.abs(x), np.abs(x + STEP)))
    nearest_y = np.maximum(y, 0.0)
    return np.asarray(np.hypot(nearest_x[None], nearest_y[:, None]) >= 1.0)


def _zero_crossing(stop_x: Array) -> Array:
    """[M] pupil x at which the first traced row crosses the stop's centre, by linear interpolation."""
    row = stop_x[:, 0]
    after = np.clip((row > 0).argmax(axis=1), 1, COLUMNS - 1)
    index = np.arange(len(row))
    low, high = row[index, after - 1], row[index, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.nan_to_num(low / (low - high), nan=0.5, posinf=0.5, neginf=0.5)
    return np.asarray((after - 1 + fraction - (COLUMNS - 1) / 2) * STEP)


def _accurate(maps: PupilMaps, checks: Array) -> NDArray[np.bool_]:
    """Whether each map predicts, in the cells that no aperture crosses, where the checking rays landed."""
    predicted, flags = interpolate(maps.hits, maps.flags, STEP, GRID[-CHECKS:])
    error = np.abs(predicted - checks).max(axis=-1)
    return np.asarray(~((flags == 0) & ~(error < TOLERANCE_PX)).any(axis=1))
