"""Small PSF sets without ray tracing: Gaussian blobs whose centroid and width depend on the field point and depth."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.psf.cvae import CVAE
from trainables.psf.data import PsfTensors
from trainables.training.checkpoints import Checkpoint, load_checkpoint

Array = NDArray[np.float32]


def blobs(points: Array, kernel_px: int = 9, channels: int = 2) -> Array:
    """Kernels [N, C, K, K], unit sum, of field points [N, 3]."""
    axis = np.arange(kernel_px) - (kernel_px - 1) / 2
    x, y, depth = points[:, 0], points[:, 1], points[:, 2]
    kernels = []
    for channel in range(channels):
        width = 1.0 + 0.5 * (x**2 + y**2) + 0.1 * channel + np.abs(1000 / np.abs(depth) - 0.1)
        row = np.exp(-((axis - (0.8 * x)[:, None]) ** 2) / (2 * width[:, None] ** 2))
        column = np.exp(-((axis - (0.8 * y)[:, None]) ** 2) / (2 * width[:, None] ** 2))
        kernel = column[:, :, None] * row[:, None, :]
        kernels.append(kernel / kernel.sum(axis=(1, 2), keepdims=True))
    return np.stack(kernels, axis=1).astype(np.float32)


def grid(side: int, depths: tuple[float, ...] = (-10000.0,), focus: tuple[float, ...] = ()) -> Array:
    """Field points [N, 3], with focus distances [N, 4], of a full grid, x fastest."""
    axis = np.linspace(-1, 1, side)
    axes = [axis, axis, depths, *([focus] if focus else [])]
    columns = np.meshgrid(*axes[::-1], indexing="ij")[::-1]
    return np.stack(columns, axis=-1).reshape(-1, len(axes)).astype(np.float32)


def write_set(directory: Path, points: Array, kernels: Array | None = None) -> Path:
    """A set on disk as the renderer leaves it."""
    directory.mkdir(parents=True)
    np.save(directory / "points.npy", points)
    np.save(directory / "kernels.npy", blobs(points) if kernels is None else kernels)
    return directory


def tensors(
    directory: Path,
    side: int = 6,
    depths: tuple[float, ...] = (-10000.0,),
    held_out: int = 40,
    kernel_px: int = 9,
    focus: tuple[float, ...] = (),
) -> PsfTensors:
    """A train grid and validation positions between its points, loaded."""
    random = np.random.default_rng(0)
    columns = [random.uniform(-1, 1, (held_out, 2)), random.choice(depths, held_out)]
    points = np.column_stack([*columns, *([random.choice(focus, held_out)] if focus else [])])
    sets = {"train": grid(side, depths, focus), "validation": points.astype(np.float32)}
    train, validation = (write_set(directory / name, at, blobs(at, kernel_px)) for name, at in sets.items())
    return PsfTensors.load(train, validation)


def newest(directory: Path, kind: Literal["last", "best"] = "last") -> Checkpoint:
    """The newest valid checkpoint, which must exist."""
    checkpoint = load_checkpoint(directory, kind)
    assert checkpoint is not None
    return checkpoint


def model_of(checkpoint: Checkpoint) -> CVAE:
    """The CVAE of a checkpoint."""
    model = checkpoint.model()
    assert isinstance(model, CVAE)
    return model


def state_of(trial: Path) -> dict[str, torch.Tensor]:
    """Weights, and their average, of the newest checkpoint of a trial."""
    tensors = newest(trial / "checkpoints").tensors
    return {name: value for name, value in tensors.items() if name.startswith(("model.", "average."))}
