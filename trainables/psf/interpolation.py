"""Interpolation of the train grid: what a model of the field must beat, in error, size and time.

Shape legend: N = grid points, M = held-out points, d = their coordinates, C = channel, K = kernel side in pixels,
F = values at a point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import NdBSpline, RBFInterpolator, RegularGridInterpolator, make_interp_spline
from torch import Tensor

from trainables.networks.mlp import diopters, scale_conditions
from trainables.psf.data import PsfSplit, grid_index
from trainables.timing import fastest

# Beyond so many grid points the RBF's dense solve is slow. Far points no longer matter, so the nearest ones are used.
RBF_DENSE = 2000
RBF_NEIGHBOURS = 100
PCA_COMPONENTS = 100
CUBIC_LEVELS = 4
"""A cubic needs four levels along an axis."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Interpolant:
    """A method fitted to a grid."""

    evaluate: Callable[[Array], Array]
    """Points [M, d] -> kernels [M, C, K, K]."""
    numbers: int
    """Numbers that must be kept for it. Those of the grid's axes, a few dozen, are not counted."""


@dataclass(frozen=True)
class Baseline:
    """What an interpolation of the train grid predicts, and what that costs."""

    kernels: Tensor
    """[M, C, K, K] at the held-out points."""
    bytes: int
    """Size in float32 of what must be kept, to compare with a model's weights."""
    seconds_per_psf: float
    """Wall-clock time on the CPU of predicting all points in one call, over their number; without the fit."""
    data: str = "grid"
    """The set that it is made of, or of a `share` of it."""
    share: float = 1.0


def _on_grid(method: str, grid: Array, kernels: Array) -> Interpolant:
    """Interpolation along the grid's axes; beyond its edge "linear" goes on as it is."""
    axes, values = _laid_out(grid, kernels)
    return Interpolant(
        RegularGridInterpolator(axes, values, method=method, bounds_error=False, fill_value=None), kernels.size
    )


def bicubic(grid: Array, kernels: Array) -> Interpolant:
    """The tensor product of not-a-knot cubic splines, and of linear ones along axes of fewer than four levels.

    It is what RegularGridInterpolator's "cubic" computes (de Boor 2001, A Practical Guide to Splines, ch. 17). That has one
    degree for all axes, and solves for all of them at once by iteration, to 1e-4 of the values; axis by axis it is exact.
    """
    axes, coefficients = _laid_out(grid, kernels)
    degrees = [3 if len(levels) >= CUBIC_LEVELS else 1 for levels in axes]
    knots = []
    for axis, (levels, degree) in enumerate(zip(axes, degrees, strict=True)):
        spline = make_interp_spline(levels, coefficients, k=degree, axis=axis)
        knots.append(spline.t)
        coefficients = np.moveaxis(spline.c, 0, axis)  # a spline keeps its own axis first
    return Interpolant(NdBSpline(tuple(knots), coefficients, tuple(degrees)), kernels.size)


def _rbf_cubic(grid: Array, kernels: Array) -> Interpolant:
    """Cubic RBF of every kernel element; there is one coefficient for each element of the grid's kernels."""
    values_at = _rbf(grid, kernels.reshape(len(kernels), -1))
    return Interpolant(lambda at: values_at(at).reshape(len(at), *kernels.shape[1:]), kernels.size)


def _pca_rbf(grid: Array, kernels: Array) -> Interpolant:
    """Cubic RBF of the scores of the kernels' principal components.

    With all components it is `_rbf_cubic`: an RBF is linear in its values, and keeps constants.
    """
    flat = kernels.reshape(len(kernels), -1)
    mean = flat.mean(axis=0)
    left, scales, components = np.linalg.svd(flat - mean, full_matrices=False)
    rank = min(PCA_COMPONENTS, len(flat) - 1, flat.shape[1])  # about their mean N points span N - 1 directions
    scores, components = left[:, :rank] * scales[:rank], components[:rank]
    scores_at = _rbf(grid, scores)
    return Interpolant(
        lambda at: (mean + scores_at(at) @ components).reshape(len(at), *kernels.shape[1:]),
        mean.size + scores.size + components.size,
    )


def _rbf(grid: Array, values: Array) -> Callable[[Array], Array]:
    """Cubic RBF of values [N, F] in all coordinates: points [M, d] -> [M, F].

    On a large grid over distances it is taken in x and y, then linearly from plane to plane.
    """
    if len(grid) <= RBF_DENSE:
        dense: Callable[[Array], Array] = RBFInterpolator(grid, values, kernel="cubic")
        return dense
    index = grid_index(grid)
    planes = index.reshape(-1, index.shape[-2] * index.shape[-1])  # one for each combination of distances
    neighbours = None if planes.shape[1] <= RBF_DENSE else RBF_NEIGHBOURS
    in_planes = [
        RBFInterpolator(grid[plane, :2], values[plane], kernel="cubic", neighbors=neighbours) for plane in planes
    ]

    def evaluate(at: Array) -> Array:
        found = np.stack([in_plane(at[:, :2]) for in_plane in in_planes], axis=1)
        for axis in range(2, grid.shape[1]):
            # The last distance varies slowest in the planes.
            levels = np.unique(grid[:, axis])
            found = _between(levels, found.reshape(len(at), -1, len(levels), values.shape[1]), at[:, axis])
        return found.reshape(len(at), -1)

    return evaluate


def _between(levels: Array, values: Array, at: Array) -> Array:
    """Linear along the levels [L] of values [M, R, L, F], each of the M at its own place: [M, R, F]."""
    upper = np.clip(np.searchsorted(levels, at), 1, len(levels) - 1)
    share = ((at - levels[upper - 1]) / (levels[upper] - levels[upper - 1]))[:, None, None]
    rows = np.arange(len(at))
    between: Array = (1 - share) * values[rows, :, upper - 1] + share * values[rows, :, upper]
    return between


def _laid_out(grid: Array, kernels: Array) -> tuple[tuple[Array, ...], Array]:
    """The grid's axes, x first, and the kernels along them: [x, y, ..., C, K, K]."""
    index = grid_index(grid)
    return tuple(np.unique(column) for column in grid.T), kernels[index.transpose(range(index.ndim)[::-1])]


# Name -> (grid [N, d], its kernels [N, C, K, K]) -> what answers at other points; the simplest first.
BASELINES: dict[str, Callable[[Array, Array], Interpolant]] = {
    "nearest": partial(_on_grid, "nearest"),
    "bilinear": partial(_on_grid, "linear"),
    "bicubic": bicubic,
    "pca_rbf": _pca_rbf,
    "rbf_cubic": _rbf_cubic,
}


def predict_baseline(name: str, train: PsfSplit, points: Tensor) -> Baseline:
    """Kernels at points [M, d] from those of the train grid.

    Args:
        name: one of `BASELINES`. Distances count in diopters; "bilinear" is linear along them too, "bicubic" is where
            the grid has fewer than four.

    Raises:
        ValueError: the train set is not a full grid.
    """
    grid, at = _conditions(train.points, train.points), _conditions(points, train.points)
    fitted = BASELINES[name](grid, train.kernels.cpu().numpy())
    predicted, seconds = fastest(lambda: fitted.evaluate(at))
    kernels = torch.from_numpy(predicted).to(train.kernels)
    return Baseline(kernels, fitted.numbers * np.dtype(np.float32).itemsize, seconds / len(points))


def predict_baselines(train: PsfSplit, points: Tensor) -> dict[str, Baseline]:
    """`predict_baseline` of every interpolation, by name."""
    return {name: predict_baseline(name, train, points) for name in BASELINES}


def _conditions(points: Tensor, train: Tensor) -> Array:
    """Points [N, d] with distances in vergence, scaled as for the model."""
    spans = [(float(column.min()), float(column.max())) for column in diopters(train[:, 2:]).T]
    return scale_conditions(points.cpu().double(), spans).numpy()
