"""PSF data sets on a device. Training reads the train and validation sets; the sealed test set is read on its own.

A set is a directory with `kernels.npy` [N, C, K, K] float32, unit sum per channel, and `points.npy` [N, 3]: normalised
x, y in [-1, 1] and object depth in mm, negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.networks import diopters


@dataclass(frozen=True)
class PsfSplit:
    """Kernels [N, C, K, K] and their points: [N, 2] x, y, or [N, 3] with the depth in mm if the data set has several."""

    kernels: Tensor
    points: Tensor

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def load(cls, directory: str | Path, condition_dim: int, device: str | torch.device = "cpu") -> PsfSplit:
        """One set by memory map: on the CPU its pages are shared by all processes of the machine.

        Args:
            condition_dim: 2 keeps x, y of each point, 3 the depth as well.
        """
        directory = Path(directory)
        # Copy-on-write: torch wants a writable array, and nothing here writes.
        kernels = torch.from_numpy(np.load(directory / "kernels.npy", mmap_mode="c"))
        points = torch.from_numpy(np.load(directory / "points.npy"))[:, :condition_dim]
        return cls(kernels.to(device), points.to(device).contiguous())


@dataclass(frozen=True)
class PsfTensors:
    """What one trial trains on."""

    train: PsfSplit
    validation: PsfSplit
    pairs: Tensor
    """[P, 2] indices into `train` of neighbours on the grid."""
    diopter_range: tuple[float, float] | None
    """Lowest and highest vergence of the train set in 1/m; None with a single depth."""

    @property
    def device(self) -> torch.device:
        return self.train.kernels.device

    @classmethod
    def load(cls, train: str | Path, validation: str | Path, device: str | torch.device = "cpu") -> PsfTensors:
        """The train grid and the validation positions, resident on `device`.

        Raises:
            ValueError: the train set is not a full grid.
        """
        points = np.load(Path(train) / "points.npy")
        vergence = diopters(torch.from_numpy(np.unique(points[:, 2])))
        several = len(vergence) > 1
        condition_dim = 3 if several else 2
        return cls(
            train=PsfSplit.load(train, condition_dim, device),
            validation=PsfSplit.load(validation, condition_dim, device),
            pairs=torch.from_numpy(neighbour_pairs(points)).to(device),
            diopter_range=(float(vergence.min()), float(vergence.max())) if several else None,
        )


def grid_index(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """Indices of points [N, 2 or 3] laid out as their grid, [ny, nx] or [depths, ny, nx], each axis rising.

    Raises:
        ValueError: the points are not a full grid.
    """
    axes, places = zip(*(np.unique(column, return_inverse=True) for column in points.T[::-1]), strict=True)
    index = np.full([len(axis) for axis in axes], -1, dtype=np.int64)
    index[places] = np.arange(len(points))
    if index.size != len(points) or (index < 0).any():
        raise ValueError(f"training points must form a full grid, but got {len(points)} points on {index.shape} axes")
    return index


def neighbour_pairs(points: NDArray[np.floating]) -> NDArray[np.int64]:
    """[P, 2] indices of grid neighbours: right, down and both diagonals at one depth, and the next depth.

    Args:
        points: [N, 3], a full grid times any number of depths, in any order.

    Raises:
        ValueError: the points are not a full grid.
    """
    index = grid_index(points)
    neighbours = (
        (index[:, :, :-1], index[:, :, 1:]),
        (index[:, :-1], index[:, 1:]),
        (index[:, :-1, :-1], index[:, 1:, 1:]),
        (index[:, :-1, 1:], index[:, 1:, :-1]),
        (index[:-1], index[1:]),
    )
    return np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in neighbours])
