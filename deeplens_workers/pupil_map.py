"""Where rays land as a smooth function of where they cross the pupil.

A few hundred rays on a grid over half the pupil of a centred lens, and interpolation between them, stand for all the
rays of a field point at any azimuth: a lens is smooth, its apertures are not. So the grid is traced as if no aperture
stopped a ray, along with the rays' heights at every aperture, and each interpolated ray is tested against those.

Every map is checked against rays traced between its grid points. Where it is off, or a ray beyond an aperture cannot be
traced, there is no map, and the caller traces each ray.

M = bundle (one object point on the +x axis, one wavelength), A = aperture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.raytrace import Pupils, RayTracer
from deeplens_workers.sampling import sobol
from deeplens_workers.splat import BLOCKED, disc_points, refine

Array = NDArray[np.float64]

# Columns and traced rows of the grid; two more rows mirror the first. The product plus CHECKS is a multiple of 64, so that
# torch's vector code meets every bundle alike. The grid ends half a step beyond the rim: farther out a fast lens bends rays
# in ways that do not matter within.
COLUMNS, ROWS, CHECKS = 24, 12, 32
STEP = 2 / (COLUMNS - 2)
# Nodes along x, and along y, that a value is interpolated from: those nearest, near the border the last ones. Bicubic
# interpolation would miss an aspheric lens' hits near the rim by ten times as much; heights, wanted to 1e-3 only, are bicubic.
HIT_NODES, HEIGHT_NODES = 8, 4
# A map may miss a traced ray by so much; with most shipped lenses it is half of that, mostly float32's rounding.
TOLERANCE_PX = 0.03
TOLERANCE_HEIGHT = 1e-3  # squared, in semi-apertures
# Between the grid's nodes hits are interpolated on a grid so much finer that going on linearly from there adds no more than
# LINEAR_PX.
FACTORS = (4, 8, 16, 32)
LINEAR_PX = 0.005


@dataclass(frozen=True)
class PupilMaps:
    """Maps of M bundles, for `splat_map`. `usable` [M] tells which may be used.

    hits: [M, ny, nx, 2] float32, sensor positions in pixels.
    factors: [M] by how much each map's grid is to be refined.
    heights: [M, A, ny, nx] float32, squared, 1 at the aperture's edge.
    flags: [M, ny, nx] uint32 of the cells.
    """

    hits: NDArray[np.float32]
    factors: NDArray[np.int64]
    heights: NDArray[np.float32]
    flags: NDArray[np.uint32]
    usable: NDArray[np.bool_]
    stop_crossing: Array
    """[M] x of the pupil point on the meridional plane whose ray passes nearest the stop's centre, in radii of the pupil."""

    def arguments(self, bundle: int) -> tuple[Any, ...]:
        """The first arguments of `splat_map` for a bundle."""
        factor = int(self.factors[bundle])
        fine = refine(self.hits[bundle], *_finer(COLUMNS, factor), *_finer(ROWS + 2, factor))
        return fine, self.heights[bundle], self.flags[bundle], STEP


def _grid() -> Array:
    """[ROWS * COLUMNS + CHECKS, 2] points of the pupil, in its radii: the grid's, row by row, then those that check it."""
    x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * STEP
    y = (np.arange(ROWS) + 0.5) * STEP
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    checks = disc_points(sobol(CHECKS), np.zeros(2, np.uint32))
    return np.concatenate([grid, np.stack([checks[:, 0], np.abs(checks[:, 1])], axis=-1)])


def _stencils(places: Array, size: int, width: int) -> tuple[NDArray[np.int64], Array]:
    """First nodes [P] and Lagrange weights [P, width] of those that interpolate, among `size`, at places [P] in steps."""
    first = np.clip(places.astype(int) - (width // 2 - 1), 0, size - width)
    nodes = np.arange(width)
    others = np.array([np.delete(nodes, node) for node in nodes])
    return first, np.prod(((places - first)[:, None, None] - others) / (nodes[:, None] - others), axis=2)


@lru_cache
def _finer(size: int, factor: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Stencils of hits at the nodes of a grid `factor` times as fine as one of `size` nodes."""
    first, weights = _stencils(np.arange(factor * (size - 1) + 1) / factor, size, HIT_NODES)
    return first, weights.astype(np.float32)


def _interpolate(width: int) -> Array:
    """Weights [CHECKS, ny * nx] of a map's nodes at the points that check it."""
    dense = []
    places = GRID[-CHECKS:] / STEP + [(COLUMNS - 1) / 2, 1.5]
    for along, size in zip(places.T, (COLUMNS, ROWS + 2), strict=True):
        first, weights = _stencils(along, size, width)
        dense.append(np.zeros((CHECKS, size)))
        np.put_along_axis(dense[-1], first[:, None] + np.arange(width), weights, axis=1)
    return np.asarray(np.einsum("px,py->pyx", *dense).reshape(CHECKS, -1))


GRID = _grid()
CHECK_HITS, CHECK_HEIGHTS = _interpolate(HIT_NODES), _interpolate(HEIGHT_NODES)


def trace_maps(tracer: RayTracer, objects: Array, wavelengths_um: Array, pupils: Pupils) -> PupilMaps:
    """Maps of bundles from objects [M, 3] with y = 0 and x >= 0; hits are relative to the optical axis.

    Args:
        wavelengths_um: [M].
        pupils: of the bundles.
    """
    positions, squared, stop_x = tracer.beyond_apertures(objects, pupils.place(GRID), wavelengths_um)
    count = ROWS * COLUMNS
    positions /= tracer.pixel_mm
    hits = positions[:, :count].reshape(-1, ROWS, COLUMNS, 2)
    _continue(hits, np.isnan(squared[:, 0, :count]).reshape(-1, ROWS, COLUMNS))
    mirrored = np.concatenate([hits[:, 1::-1] * [1, -1], hits], axis=1).astype(np.float32)
    heights = squared[:, :, :count].reshape(*squared.shape[:2], ROWS, COLUMNS)
    heights = np.concatenate([heights[:, :, 1::-1], heights], axis=2)
    flags, broken = _flags(heights)
    crossing = _zero_crossing(stop_x[:, :count].reshape(-1, ROWS, COLUMNS))
    factors, fine_enough = _factors(mirrored)
    maps = PupilMaps(mirrored, factors, heights, flags, ~broken & fine_enough, crossing)
    maps.usable[:] &= _accurate(maps, positions[:, count:], squared[:, :, count:])
    return maps


def _flags(heights: NDArray[np.float32]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Flags [M, ny, nx] of the cells, and whether a cell that passes light lacks a node of its interpolation, [M].

    Between its corners a height is no more than `bulge` above the highest of them, or below the lowest.
    """
    with np.errstate(invalid="ignore"):
        unknown = np.isnan(heights).any(axis=1)
        bends = [np.abs(np.nan_to_num(np.diff(heights, 2, axis=axis))).max(axis=(2, 3)) for axis in (2, 3)]
        bulge = ((bends[0] + bends[1]) / 8)[..., None, None]
        clear = _over(heights, 2, np.maximum) + bulge <= 1.0
        blocked = (_over(heights, 2, np.minimum) - bulge > 1.0).any(axis=1)
    bits = np.uint32(1) << np.arange(heights.shape[1], dtype=np.uint32)
    flags = np.where(clear, np.uint32(0), bits[:, None, None]).sum(axis=1, dtype=np.uint32)
    # NaN is neither: a cell whose corners cannot all be traced passes no light if those that can do not.
    corners = _over(np.isnan(heights) | (heights > 1.0), 2, np.logical_and).any(axis=1)
    flags[blocked | _beyond_rim() | (corners & _over(unknown, 2, np.logical_or))] = BLOCKED
    broken = (_over(unknown, HEIGHT_NODES, np.logical_or) & (flags != BLOCKED)).any(axis=(1, 2))
    return flags, broken


def _continue(hits: Array, unknown: NDArray[np.bool_]) -> None:
    """Write the hits [M, ROWS, COLUMNS, 2] of rays that could not be traced: each row goes on outwards as a parabola.

    They are in corners of the grid, which have next to no weight in any hit within the rim.
    """
    for side, lost in ((hits, unknown), (hits[:, :, ::-1], unknown[:, :, ::-1])):
        for column in range(COLUMNS // 2, COLUMNS):
            one, two, three = (side[:, :, column - back] for back in (1, 2, 3))
            np.copyto(side[:, :, column], 3 * one - 3 * two + three, where=lost[:, :, column, None])


def _over(nodes: NDArray[Any], width: int, combine: Any) -> NDArray[Any]:
    """Combine, for each cell, its 2 x 2 corners or the more nodes that interpolate it."""
    for axis in (-2, -1):
        size = nodes.shape[axis]
        first = np.clip(np.arange(size) - (width // 2 - 1), 0, size - width)
        nodes = combine.reduce([np.take(nodes, first + node, axis=axis) for node in range(width)])
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


def _accurate(maps: PupilMaps, checks: Array, heights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each map predicts where the checking rays that pass all apertures landed, and their heights.

    Args:
        checks, heights: [M, CHECKS, 2] in pixels and [M, A, CHECKS], of the traced rays.
    """
    with np.errstate(invalid="ignore"):
        passing = (heights <= 1.0).all(axis=1)
        # Not matrix products: how BLAS rounds depends on how many maps there are.
        hits = np.einsum("pn,mna->mpa", CHECK_HITS, maps.hits.reshape(len(maps.hits), -1, 2))
        squares = np.einsum(
            "pn,mkn->mkp", CHECK_HEIGHTS, np.nan_to_num(maps.heights).reshape(*maps.heights.shape[:2], -1)
        )
        hit = np.abs(hits - checks).max(axis=-1) < TOLERANCE_PX
        height = np.abs(squares - heights).max(axis=1) < TOLERANCE_HEIGHT
    return np.asarray(passing.any(axis=1) & ~(passing & ~(hit & height)).any(axis=1))


def _factors(hits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """By how much to refine each grid [M, ny, nx, 2], from the bend between its nodes within the rim; and if that is enough."""
    inside = (np.hypot(*np.moveaxis(GRID[:-CHECKS].reshape(ROWS, COLUMNS, 2), 2, 0)) <= 1.0)[:-1, 1:-1, None]
    # Of the traced rows, the last apart, and of the columns between the first and the last.
    bends = [np.abs(np.diff(hits[:, 1:, 1:-1], 2, axis=1)), np.abs(np.diff(hits[:, 2:-1], 2, axis=2))]
    bend = np.maximum(*(np.where(inside, along, 0.0).max(axis=(1, 2, 3)) for along in bends))
    wanted = np.sqrt(np.nan_to_num(bend) / (8 * LINEAR_PX))
    return np.array(FACTORS)[np.searchsorted(FACTORS[:-1], wanted)], wanted <= FACTORS[-1]
