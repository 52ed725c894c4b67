"""Tables of kernels over field, depth and focus: what a user would keep in place of a model, at the cost of a model.

On the sensor's grid a table has x and y. In the meridional frame it has their radius alone, and its kernels are turned: far
fewer of them do. There it is kept as it is, or as scores of its kernels' principal components. Between its points it is a
tensor product of cubic splines. Each is judged with all kernels that were traced for it and, thinned out, with no more bytes
than the model; how it is thinned out is chosen at the validation positions.

Shape legend: N = table points, M = held-out points, d = their coordinates, e = a table's coordinates, F = numbers per point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.networks.mlp import diopters
from trainables.psf.data import PsfSplit, grid_index
from trainables.psf.interpolation import Baseline, bicubic
from trainables.psf.metrics import relative_l2
from trainables.psf.principal import CHUNK, FITTED_KERNELS, Components, expand, kept, unfolded
from trainables.psf.turning import Turned, Turning
from trainables.timing import Timer, fastest, once

RANKS = (64, 128, 192, 256)
RATIOS = (0.5, 1, 2, 4)
"""Points along x or the radius, for each along a distance."""
COLUMNS = 2048
"""Numbers interpolated at once: a spline takes them in double precision."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Table:
    """Values [N, F] at the points [N, e] of a full grid.

    `where` gives coordinates [M, e] of points [M, d] on the sensor, `kernels` the kernels [M, C, K, K] of values [M, F] there;
    `besides` is bytes of what is kept once, for all points; `in_plane` of the coordinates are no distances to the object.
    """

    points: Array
    values: Tensor
    where: Callable[[Tensor], Array]
    kernels: Callable[[Tensor, Tensor], Tensor]
    besides: int = 0
    in_plane: int = 1

    @property
    def bytes(self) -> int:
        return self.values.numel() * self.values.element_size() + self.besides

    def predict(self, points: Tensor, timer: Timer = fastest) -> Baseline:
        """Kernels [M, C, K, K] at points [M, d], and what they cost; the splines' own fit is not in their time."""
        seconds, parts = 0.0, []
        at = self.where(points)
        for part in self.values.split(COLUMNS, dim=1):
            spline = bicubic(self.points, part.numpy())
            found, took = timer(partial(spline.evaluate, at))
            parts.append(found)
            seconds += took
        values = torch.from_numpy(np.concatenate(parts, axis=1)).float()
        kernels, took = timer(lambda: self.kernels(values, points))
        return Baseline(kernels, self.bytes, (seconds + took) / len(points))

    def thinned(self, size: int) -> Iterator[Table]:
        """Tables of at most `size` bytes, of some of the points: even along each coordinate, in several proportions."""
        nodes = (size - self.besides) // (self.values.shape[1] * self.values.element_size())
        index = grid_index(self.points)  # distances first, x or the radius last
        in_plane, seen = self.in_plane, set()
        for ratio in RATIOS:
            each = max(nodes, 0) ** (1 / index.ndim)
            along = each * ratio ** ((index.ndim - in_plane) / index.ndim)
            counts = [min(n, int(along / ratio)) for n in index.shape[:-in_plane]]
            left = nodes // max(1, int(np.prod(counts)))
            counts += [min(n, int(left ** (1 / in_plane))) for n in index.shape[-in_plane:]]
            if min(counts) >= 2 and tuple(counts) not in seen:
                seen.add(tuple(counts))
                levels = [
                    np.linspace(0, n - 1, count).round().astype(int)
                    for n, count in zip(index.shape, counts, strict=True)
                ]
                chosen = index[np.ix_(*levels)].ravel()
                yield replace(self, points=self.points[chosen], values=self.values[chosen])


def on_sensor(grid: PsfSplit) -> Table:
    """Kernels of the sensor's grid, in x, y and vergences."""
    shape = grid.kernels.shape[1:]
    points = _in_vergence(grid.points)
    return Table(
        points, grid.kernels.flatten(1), _in_vergence, lambda values, _: values.unflatten(1, shape), in_plane=2
    )


def meridional(grid: PsfSplit, turned: Turned, turn: Turning) -> Table:
    """Kernels of the +x axis, in radius and vergences."""
    channels = grid.kernels.shape[1]
    values = torch.cat([kept(part, mirrored=True) for part in grid.kernels.split(CHUNK)])  # the whole is gigabytes
    return _turned(grid, turned, turn, values, lambda values: unfolded(values, channels, mirrored=True))


def of_components(
    grid: PsfSplit, turned: Turned, turn: Turning, fitted: Components, ranks: Sequence[int]
) -> list[Table]:
    """Scores of kernels of the +x axis: as `meridional`, of so many components each."""
    channels, scores = grid.kernels.shape[1], fitted.scores(grid.kernels)

    def of(rank: int) -> Table:
        components = fitted.components[:rank]

        def smooth(values: Tensor) -> Tensor:
            return expand(values * fitted.scale, fitted.mean, components, channels, mirrored=True)

        besides = (rank + 1) * fitted.mean.numel() * fitted.mean.element_size()
        return replace(_turned(grid, turned, turn, scores[:, :rank], smooth), besides=besides)

    return [of(rank) for rank in ranks]


def _turned(grid: PsfSplit, turned: Turned, turn: Turning, values: Tensor, smooth: Callable[[Tensor], Tensor]) -> Table:
    """Of values whose smoothed kernels are turned."""

    def where(points: Tensor) -> Array:
        radius = turned.radius(points)
        return np.delete(_in_vergence(torch.cat([radius[:, None], points[:, 1:]], dim=1)), 1, axis=1)

    def kernels(values: Tensor, points: Tensor) -> Tensor:
        found: Tensor = turn(smooth(values), turned.azimuth(points))
        return found

    return Table(where(grid.points), values, where, kernels)


def _in_vergence(points: Tensor) -> Array:
    """Points [M, d] with distances in 1/m."""
    found: Array = torch.cat([points[:, :2], diopters(points[:, 2:])], dim=1).double().numpy()
    return found


def judged_tables(
    grid: PsfSplit, axis: PsfSplit, turned: Turned, validation: PsfSplit, points: Tensor, size: int
) -> dict[str, Baseline]:
    """Every table at held-out points [M, d], by its name among the system's baselines.

    Args:
        grid, axis: kernels on the sensor's grid and, of the meridional frame, on a grid of the +x axis.
        size: the model's bytes.
    """
    turn = Turning(turned, grid.kernels.shape[-1])
    fitted = Components.fit(axis.kernels, mirrored=True)
    ranks = [rank for rank in RANKS if rank <= len(fitted.components)] or [len(fitted.components)]
    kinds = {
        "bicubic": ("grid", [on_sensor(grid)]),
        "turned": ("axis", [meridional(axis, turned, turn)]),
        "components": ("axis", of_components(axis, turned, turn, fitted, ranks)),
    }
    found = {}
    for name, (data, tables) in kinds.items():
        whole = len(tables[-1].values)
        least = FITTED_KERNELS if name == "components" else 0  # which its components are found from
        small = [table for one in tables for table in one.thinned(size)]
        guesses = [one.predict(validation.points, once).kernels for one in small]
        errors = [float(relative_l2(one, validation.kernels).mean()) for one in guesses]
        found[name] = replace(tables[-1].predict(points), data=data)
        if small:
            best = small[int(np.argmin(errors))]
            share = min(whole, max(least, len(best.values))) / whole
            found[f"{name}_small"] = replace(best.predict(points), data=data, share=share)
    return found
