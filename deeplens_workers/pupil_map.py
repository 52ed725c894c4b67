"""Where rays land as a smooth function of where they cross the pupil.

A few hundred rays on a grid over the pupil, and interpolation between them, stand for all the rays of a field point: a lens
is smooth, its apertures are not. So the grid is traced as if no aperture stopped a ray, along with the rays' heights at every
aperture, and each interpolated ray is tested against those. A centred lens needs half a grid, which serves every azimuth.

Every map is checked against rays traced between its grid points. Where it is off, or a ray beyond an aperture cannot be
traced, there is no map, and the caller traces each ray.

M = bundle (one object point, one wavelength), A = aperture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.raytrace import Pupils, RayTracer, solve
from deeplens_workers.sampling import sobol
from deeplens_workers.splat import BLOCKED, disc_points, refine

Array = NDArray[np.float64]

# Nodes along x, and along y over the whole pupil. The grid ends half a step beyond the rim: farther out a fast lens bends rays
# in ways that do not matter within.
COLUMNS = 24
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
class Grid:
    """Which rays are traced: of the half with y > 0, which two more rows mirror the first of; or of the whole pupil.

    With the rays that check it a bundle has a multiple of 64, so that torch's vector code meets every bundle alike.
    """

    whole: bool

    @property
    def rows(self) -> int:
        """Traced."""
        return COLUMNS if self.whole else COLUMNS // 2

    @property
    def size(self) -> int:
        """Rows of the map."""
        return self.rows if self.whole else self.rows + 2

    @property
    def first(self) -> float:
        """y of the map's first row, in steps."""
        return -(COLUMNS - 1) / 2 if self.whole else -1.5

    @property
    def checks(self) -> int:
        """Rays between the grid's nodes."""
        return 64 if self.whole else 32

    @cached_property
    def places(self) -> Array:
        """[rows * COLUMNS + checks, 2] points of the pupil, in its radii: the grid's, row by row, then those that check it."""
        x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * STEP
        y = (np.arange(self.size) + self.first)[-self.rows :] * STEP
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        checks = disc_points(sobol(self.checks), np.zeros(2, np.uint32))
        along_y = checks[:, 1] if self.whole else np.abs(checks[:, 1])
        return np.concatenate([grid, np.stack([checks[:, 0], along_y], axis=-1)])

    @cached_property
    def check_hits(self) -> Array:
        """Weights [checks, size * COLUMNS] of a map's nodes."""
        return self._interpolate(HIT_NODES)

    @cached_property
    def check_heights(self) -> Array:
        """Likewise."""
        return self._interpolate(HEIGHT_NODES)

    def _interpolate(self, width: int) -> Array:
        dense = []
        places = self.places[-self.checks :] / STEP + [(COLUMNS - 1) / 2, -self.first]
        for along, size in zip(places.T, (COLUMNS, self.size), strict=True):
            first, weights = _stencils(along, size, width)
            dense.append(np.zeros((self.checks, size)))
            np.put_along_axis(dense[-1], first[:, None] + np.arange(width), weights, axis=1)
        return np.asarray(np.einsum("px,py->pyx", *dense).reshape(self.checks, -1))

    @cached_property
    def beyond_rim(self) -> NDArray[np.bool_]:
        """[size, COLUMNS] cells wholly outside the unit disc."""
        x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * STEP
        y = (np.arange(self.size) + self.first) * STEP
        nearest_x, nearest_y = (
            np.where((low < 0) & (low + STEP > 0), 0.0, np.minimum(np.abs(low), np.abs(low + STEP))) for low in (x, y)
        )
        if not self.whole:
            nearest_y = np.maximum(y, 0.0)
        return np.asarray(np.hypot(nearest_x[None], nearest_y[:, None]) >= 1.0)


HALF, WHOLE = Grid(whole=False), Grid(whole=True)


@dataclass(frozen=True)
class PupilMaps:
    """Maps of M bundles, for `splat_map`. `usable` [M] tells which may be used.

    hits: [M, ny, nx, 2] float32, sensor positions in pixels.
    factors: [M] by how much each map's grid is to be refined.
    heights: [M, A, ny, nx] float32, squared, 1 at the aperture's edge.
    flags: [M, ny, nx] uint32 of the cells.
    """

    grid: Grid
    hits: NDArray[np.float32]
    factors: NDArray[np.int64]
    heights: NDArray[np.float32]
    flags: NDArray[np.uint32]
    usable: NDArray[np.bool_]
    stop_crossing: Array
    """[M] x of the pupil point on the meridional plane whose ray passes nearest the stop's centre, in radii of the pupil; of a
    whole grid [M, 2]."""

    def arguments(self, bundle: int) -> tuple[Any, ...]:
        """The first arguments of `splat_map` for a bundle."""
        factor = int(self.factors[bundle])
        fine = refine(self.hits[bundle], *_finer(COLUMNS, factor), *_finer(self.grid.size, factor))
        return fine, self.heights[bundle], self.flags[bundle], STEP, self.grid.first, self.grid.whole


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


def trace_maps(
    tracer: RayTracer, objects: Array, wavelengths_um: Array, pupils: Pupils, grid: Grid = HALF
) -> PupilMaps:
    """Maps of bundles from objects [M, 3]; hits are relative to the optical axis.

    Args:
        wavelengths_um: [M].
        pupils: of the bundles.
        grid: half a one for objects with y = 0 and x >= 0 of a centred lens.
    """
    positions, squared, stop = tracer.beyond_apertures(objects, pupils.place(grid.places), wavelengths_um)
    count = grid.rows * COLUMNS
    positions /= tracer.pixel_mm
    hits = positions[:, :count].reshape(-1, grid.rows, COLUMNS, 2)
    _continue(hits, np.isnan(squared[:, 0, :count]).reshape(-1, grid.rows, COLUMNS))
    heights = squared[:, :, :count].reshape(*squared.shape[:2], grid.rows, COLUMNS)
    stop = stop[:, :count].reshape(-1, grid.rows, COLUMNS, 2)
    if grid.whole:
        crossing = _zero_near(stop)
    else:
        hits = np.concatenate([hits[:, 1::-1] * [1, -1], hits], axis=1)
        heights = np.concatenate([heights[:, :, 1::-1], heights], axis=2)
        crossing = _zero_crossing(stop[..., 0])
    single = hits.astype(np.float32)
    flags, broken = _flags(heights, grid)
    factors, fine_enough = _factors(single, grid)
    maps = PupilMaps(grid, single, factors, heights, flags, ~broken & fine_enough, crossing)
    maps.usable[:] &= _accurate(maps, positions[:, count:], squared[:, :, count:])
    return maps


def _flags(heights: NDArray[np.float32], grid: Grid) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
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
    flags[blocked | grid.beyond_rim | (corners & _over(unknown, 2, np.logical_or))] = BLOCKED
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


def _zero_crossing(stop_x: Array) -> Array:
    """[M] pupil x at which the first traced row crosses the stop's centre, by linear interpolation."""
    row = stop_x[:, 0]
    after = np.clip((row > 0).argmax(axis=1), 1, COLUMNS - 1)
    index = np.arange(len(row))
    low, high = row[index, after - 1], row[index, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = np.nan_to_num(low / (low - high), nan=0.5, posinf=0.5, neginf=0.5)
    return np.asarray((after - 1 + fraction - (COLUMNS - 1) / 2) * STEP)


def _zero_near(stop: Array) -> Array:
    """[M, 2] pupil places whose rays cross the stop's centre, of those that do so at places [M, ny, nx, 2] of the stop."""
    inner = stop[:, 1:-1, 1:-1]
    nearest = np.nan_to_num(np.square(inner).sum(-1), nan=np.inf).reshape(len(stop), -1).argmin(1)
    row, column = np.divmod(nearest, inner.shape[2])
    bundle = np.arange(len(stop))
    along_x = (stop[bundle, row + 1, column + 2] - stop[bundle, row + 1, column]) / 2
    along_y = (stop[bundle, row + 2, column + 1] - stop[bundle, row, column + 1]) / 2
    step = solve(np.stack([along_x, along_y], axis=-1), inner[bundle, row, column])
    step = np.where(np.isfinite(step), np.clip(step, -1, 1), 0.0)
    return np.asarray((np.stack([column, row], axis=1) + 1 - step - (COLUMNS - 1) / 2) * STEP)


def _accurate(maps: PupilMaps, checks: Array, heights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each map predicts where the checking rays that pass all apertures landed, and their heights.

    Args:
        checks, heights: [M, CHECKS, 2] in pixels and [M, A, CHECKS], of the traced rays.
    """
    with np.errstate(invalid="ignore"):
        passing = (heights <= 1.0).all(axis=1)
        # Not matrix products: how BLAS rounds depends on how many maps there are.
        hits = np.einsum("pn,mna->mpa", maps.grid.check_hits, maps.hits.reshape(len(maps.hits), -1, 2))
        squares = np.einsum(
            "pn,mkn->mkp", maps.grid.check_heights, np.nan_to_num(maps.heights).reshape(*maps.heights.shape[:2], -1)
        )
        hit = np.abs(hits - checks).max(axis=-1) < TOLERANCE_PX
        height = np.abs(squares - heights).max(axis=1) < TOLERANCE_HEIGHT
    return np.asarray(passing.any(axis=1) & ~(passing & ~(hit & height)).any(axis=1))


def _factors(hits: NDArray[np.float32], grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """By how much to refine each map [M, ny, nx, 2], from the bend between its nodes within the rim; and if that is enough."""
    radius = np.hypot(*np.moveaxis(grid.places[: -grid.checks].reshape(grid.rows, COLUMNS, 2), 2, 0))
    # Of the traced rows, the outermost apart, and of the columns between the first and the last.
    first, last = (1, -1) if grid.whole else (0, -1)
    inside = (radius <= 1.0)[first:last, 1:-1, None]
    rows, columns = (hits, hits[:, 1:-1]) if grid.whole else (hits[:, 1:], hits[:, 2:-1])
    bends = [np.abs(np.diff(rows[:, :, 1:-1], 2, axis=1)), np.abs(np.diff(columns, 2, axis=2))]
    bend = np.maximum(*(np.where(inside, along, 0.0).max(axis=(1, 2, 3)) for along in bends))
    wanted = np.sqrt(np.nan_to_num(bend) / (8 * LINEAR_PX))
    return np.array(FACTORS)[np.searchsorted(FACTORS[:-1], wanted)], wanted <= FACTORS[-1]
