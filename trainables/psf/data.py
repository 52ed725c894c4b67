"""PSF data sets on a device. Training reads the train and validation sets; the sealed test set is read on its own.

A set is a directory with `kernels.npy` [N, C, K, K] float32, unit sum per channel, and `points.npy` [N, 3 or 4]: normalised
x, y in [-1, 1], object depth in mm, negative, and, if given, focus distance in mm, negative. Kernels to train on may be of
the meridional frame: at points on the +x axis, smoothed, with more samples (deeplens_workers/pooling.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplens_workers.lens_data import COORDINATES
from trainables.psf.principal import Components
from trainables.psf.turning import Turned

HELD_BACK = 128


@dataclass(frozen=True)
class PsfSplit:
    """Kernels [N, C, K, K] and their points [N, d]: the conditions, in physical units."""

    kernels: Tensor
    points: Tensor

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def load(cls, directory: str | Path, conditions: Sequence[str], device: str | torch.device = "cpu") -> PsfSplit:
        """One set by memory map: on the CPU its pages are shared by all processes of the machine.

        Args:
            conditions: those of `COORDINATES` that the points shall have.
        """
        directory = Path(directory)
        # Copy-on-write: torch wants a writable array, and nothing here writes.
        kernels = torch.from_numpy(np.load(directory / "kernels.npy", mmap_mode="c"))
        points = torch.from_numpy(select(np.load(directory / "points.npy"), conditions))
        return cls(kernels.to(device), points.to(device))


class Basis:
    """Principal components, found when a trial first asks for them, and the scores of a train set's kernels.

    Args:
        kernels: the train set's.
        mirrored: as `Components` has it.
        found_from: kernels whose components they are, if not the train set's own: those of a stream are other ones in each
            process and after each step, and a trial must find the same components again when it goes on.
    """

    def __init__(self, kernels: Tensor, mirrored: bool, found_from: Tensor | None = None) -> None:
        self._kernels, self._mirrored = kernels, mirrored
        self._found_from = kernels if found_from is None else found_from

    @cached_property
    def components(self) -> Components:
        """On the CPU."""
        return Components.fit(self._found_from.cpu(), self._mirrored)

    @cached_property
    def scores(self) -> Tensor:
        """[N, R] on the kernels' device."""
        return self.components.scores(self._kernels.cpu()).to(self._kernels.device)

    def update(self, place: slice) -> None:
        """Other kernels have come to a place of the train set."""
        if "scores" in self.__dict__:  # a trial has asked for them
            self.scores[place] = self.components.scores(self._kernels[place].cpu()).to(self.scores)


class Refresher(Protocol):
    """What keeps a train set fresh while it is drawn from."""

    def refresh(self, drawn: int) -> None:
        """Between two steps; `drawn`: kernels that the step drew, on all ranks."""

    def fresh_share(self) -> float | None:
        """Fresh kernels per kernel drawn since the last call. None: none drawn."""


@dataclass(frozen=True)
class PsfTensors:
    """What one trial trains on."""

    train: PsfSplit
    validation: PsfSplit
    pairs: Tensor
    """[P, 2, d] points of neighbours on the sensor's grid."""
    diopter_ranges: dict[str, tuple[float, float]]
    """Lowest and highest vergence of the sensor's grid in 1/m, of each distance that varies."""
    basis: Basis
    turned: Turned | None = None
    """The train set is of the meridional frame."""
    fresh: Refresher | None = None
    """What puts other kernels in the place of those drawn, between steps. A grid stays as it is."""

    @property
    def held_back(self) -> int:
        """How many kernels at the end of a meridional train set no batch has: the posterior is judged by them."""
        return 0 if self.turned is None else min(HELD_BACK, len(self.train) // 10)

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those of `COORDINATES` that the points have."""
        return (*COORDINATES[:2], *self.diopter_ranges)

    @property
    def device(self) -> torch.device:
        return self.train.kernels.device

    @classmethod
    def load(
        cls,
        train: str | Path,
        validation: str | Path,
        device: str | torch.device = "cpu",
        turned: Turned | None = None,
        grid: str | Path | None = None,
    ) -> PsfTensors:
        """The train set and the validation positions, resident on `device`.

        Args:
            turned: the train set is of the meridional frame.
            grid: the set of the sensor's grid, where that is not the train set.
        """
        points = np.load(Path(grid or train) / "points.npy")
        ranges = diopter_ranges(points)
        conditions = (*COORDINATES[:2], *ranges)
        trained_on = PsfSplit.load(train, conditions, device)
        pairs = torch.from_numpy(select(points, conditions)[neighbour_pairs(points)])
        return cls(
            train=trained_on,
            validation=PsfSplit.load(validation, conditions, device),
            pairs=pairs.to(device),
            diopter_ranges=ranges,
            basis=Basis(trained_on.kernels, mirrored=turned is not None),
            turned=turned,
        )


def diopter_ranges(points: NDArray[np.float32]) -> dict[str, tuple[float, float]]:
    """Lowest and highest vergence in 1/m of each distance that varies among points [N, 3 or 4]: conditions besides x and y."""
    vergences = {name: 1000 / np.abs(column) for name, column in zip(COORDINATES[2:], points.T[2:], strict=False)}
    return {name: (float(v.min()), float(v.max())) for name, v in vergences.items() if np.ptp(v) > 0}


def select(points: NDArray[np.float32], conditions: Sequence[str]) -> NDArray[np.float32]:
    """The columns [N, d] of points [N, 3 or 4] that are conditions of a model."""
    return np.ascontiguousarray(points[:, [COORDINATES.index(name) for name in conditions]])


def grid_index(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices of points [N, d] laid out as their grid, the last axis x and the one before it y, each axis rising.

    Raises:
        ValueError: the points are not a full grid.
    """
    axes, places = zip(*(np.unique(column, return_inverse=True) for column in points.T[::-1]), strict=True)
    shape = [len(axis) for axis in axes]
    if math.prod(shape) == len(points):  # random points have as many levels as there are
        index = np.full(shape, -1, dtype=np.int64)
        index[places] = np.arange(len(points))
        if (index >= 0).all():
            return index
    raise ValueError(f"training points must form a full grid, but got {len(points)} points on {shape} axes")


def neighbour_pairs(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """[P, 2] indices of neighbours on a grid of points [N, d]: along each axis, and along both diagonals of x and y.

    Raises:
        ValueError: the points are not a full grid.
    """
    index = grid_index(points)
    across = np.eye(index.ndim, dtype=int)
    steps = [*across, across[-1] + across[-2], across[-2] - across[-1]]
    ends = [[_shifted(index, -step), _shifted(index, step)] for step in steps]
    return np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in ends])


def _shifted(index: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is left of a grid whose first or, for -1, last row of an axis is taken away."""
    ends = {0: slice(None), 1: slice(1, None), -1: slice(None, -1)}
    return index[tuple(ends[int(one)] for one in step)]
