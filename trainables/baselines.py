"""Interpolation of the train grid: what a model of the field must beat."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator, RegularGridInterpolator
from torch import Tensor

from trainables.data import PsfSplit, grid_index
from trainables.metrics import kernel_metrics
from trainables.networks import diopters, scale_conditions

# Beyond so many grid points the RBF's dense solve is slow. Far points no longer matter, so the nearest ones are used.
RBF_DENSE = 2000
RBF_NEIGHBOURS = 100

Array = NDArray[np.floating]


def _conditions(points: Tensor, train: Tensor) -> Array:
    """Points [N, d] with distances in vergence, scaled as for the model."""
    spans = [(float(column.min()), float(column.max())) for column in diopters(train[:, 2:]).T]
    return scale_conditions(points.cpu().double(), spans).numpy()


def _on_grid(method: str, grid: Array, kernels: Array, at: Array) -> Array:
    """Interpolation along the grid's axes; linear beyond its edge."""
    axes = [np.unique(column) for column in grid.T]
    index = grid_index(grid)
    values = kernels[index.transpose(range(index.ndim)[::-1])]
    grid_values = RegularGridInterpolator(axes, values, method=method, bounds_error=False, fill_value=None)
    result: Array = grid_values(at)
    return result


def _rbf_cubic(grid: Array, kernels: Array, at: Array) -> Array:
    """Cubic RBF in all coordinates; on a large grid over distances in x and y, then linear from plane to plane."""
    flat = kernels.reshape(len(kernels), -1)
    if len(grid) <= RBF_DENSE:
        return _rbf(grid, flat, at).reshape(len(at), *kernels.shape[1:])
    index = grid_index(grid)
    planes = index.reshape(-1, index.shape[-2] * index.shape[-1])  # one for each combination of distances
    values = np.stack([_rbf(grid[plane][:, :2], flat[plane], at[:, :2]) for plane in planes], axis=1)
    for axis in range(2, grid.shape[1]):
        # The last distance varies slowest in the planes.
        levels = np.unique(grid[:, axis])
        values = _between(levels, values.reshape(len(at), -1, len(levels), *values.shape[2:]), at[:, axis])
    return values.reshape(len(at), *kernels.shape[1:])


def _rbf(grid: Array, values: Array, at: Array) -> Array:
    neighbours = None if len(grid) <= RBF_DENSE else RBF_NEIGHBOURS
    interpolated: Array = RBFInterpolator(grid, values, kernel="cubic", neighbors=neighbours)(at)
    return interpolated


def _between(levels: Array, values: Array, at: Array) -> Array:
    """Linear along the levels [L] of values [M, R, L, F], each of the M at its own place: [M, R, F]."""
    upper = np.clip(np.searchsorted(levels, at), 1, len(levels) - 1)
    share = ((at - levels[upper - 1]) / (levels[upper] - levels[upper - 1]))[:, None, None]
    rows = np.arange(len(at))
    between: Array = (1 - share) * values[rows, :, upper - 1] + share * values[rows, :, upper]
    return between


# Name -> (grid [N, d], its kernels [N, C, K, K], points [M, d]) -> kernels [M, C, K, K].
BASELINES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "nearest": partial(_on_grid, "nearest"),
    "bilinear": partial(_on_grid, "linear"),
    "rbf_cubic": _rbf_cubic,
}


def interpolate(name: str, train: PsfSplit, points: Tensor) -> Tensor:
    """Kernels [N, C, K, K] at points [N, d] from those of the train grid.

    Args:
        name: "nearest", "bilinear" (linear in depth and focus too) or "rbf_cubic". Distances count in diopters.
    """
    grid, at = _conditions(train.points, train.points), _conditions(points, train.points)
    predicted = BASELINES[name](grid, train.kernels.cpu().numpy(), at)
    return torch.from_numpy(predicted).to(train.kernels)


def score_baselines(train: PsfSplit, held_out: PsfSplit) -> dict[str, dict[str, float]]:
    """Metrics of `kernel_metrics` for every interpolation of the train grid at held-out positions."""
    return {name: kernel_metrics(interpolate(name, train, held_out.points), held_out.kernels) for name in BASELINES}
