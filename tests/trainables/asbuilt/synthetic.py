"""Sets of synthetic units: blobs with a tail, of a lens whose centre is displaced and whose sensor is out of focus.

Mirror images of a unit are units: the kernel at (x, y) depends on (x, y) minus the displacement, as a centred lens' does.
They are wider by 0.8 pixels for each diopter that an object is nearer than what is in focus. The centroid of the middle channel is on
the middle of the window.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from deeplens_workers.kernels import middle_channel
from trainables.asbuilt.data import GRID_SIDE
from trainables.asbuilt.oracle import MirroredTolerances

CHANNELS, SIDE = 2, 12
FAR = -1e4
"""In focus, in mm, unless a point says otherwise; and the first of all distances."""


def kernels_of(
    unit: np.ndarray, points: np.ndarray, side: int = SIDE, aspect: float = 1.0, displaced: np.ndarray | float = 0.0
) -> np.ndarray:
    """[P, C, K, K] of a unit (dx, dy, defocus) in standard deviations at points [P, 2 to 4]; rows of pixels go down, y up.

    Args:
        displaced: [P, 2] by how many pixels right and up from the window's middle.
    """
    centre = np.zeros((len(points), 2))
    for _ in range(4):
        centre -= _centroids(_blobs(unit, points, side, aspect, centre)[:, middle_channel(CHANNELS)])
    made = _blobs(unit, points, side, aspect, centre + displaced)
    made /= made.sum(axis=(-2, -1), keepdims=True)
    return made.astype(np.float32)


def _centroids(images: np.ndarray) -> np.ndarray:
    """[P, 2] in pixels right and up from the middle, of images [P, K, K]."""
    axis = np.arange(images.shape[-1]) - (images.shape[-1] - 1) / 2
    sums = np.stack([images.sum(axis=-2) @ axis, -images.sum(axis=-1) @ axis], axis=1)
    return np.asarray(sums / images.sum(axis=(-2, -1))[:, None])


def _blobs(unit: np.ndarray, points: np.ndarray, side: int, aspect: float, centre: np.ndarray) -> np.ndarray:
    """[P, C, K, K] about centres [P, 2]."""
    field = (points[:, :2] - 0.3 * unit[:2]) * [1, aspect]
    depth, focus = (points[:, column] if column < points.shape[1] else FAR for column in (2, 3))
    apart = 1000 / focus - 1000 / depth
    radius = np.hypot(*field.T)
    axis = np.arange(side) - (side - 1) / 2
    x, y = (grid - offset[:, None, None] for grid, offset in zip(np.meshgrid(axis, -axis), centre.T, strict=True))
    along = field / np.maximum(radius, 1e-6)[:, None]
    radial = along[:, :1, None] * x + along[:, 1:, None] * y
    across = -along[:, 1:, None] * x + along[:, :1, None] * y
    kernels = []
    for channel in range(CHANNELS):
        width = 1.2 + 0.2 * channel + 0.3 * radius + 0.3 * np.tanh(unit[2]) * (1 - radius**2)
        width = (width + 0.8 * apart)[:, None, None]
        blob = np.exp(-0.5 * (radial / (width * (1 + 0.5 * radius[:, None, None]))) ** 2 - 0.5 * (across / width) ** 2)
        kernels.append(blob * (1 + 0.5 * np.tanh(radial) * radius[:, None, None]))
    return np.stack(kernels, axis=1)


def mirrored_tolerances(turns: torch.Tensor) -> MirroredTolerances:
    """A unit's displacement is mirrored as positions are, by turns [G, 2, 2]; its third number stays."""
    images = len(turns)
    signs = torch.cat([turns.sum(dim=2), torch.ones(images, 1)], dim=1)
    order = torch.cat([turns.abs().argmax(dim=2), torch.full((images, 1), 2)], dim=1)
    return MirroredTolerances(order, signs)


def write(
    directory: Path, units: np.ndarray, points: np.ndarray, side: int = SIDE, aspect: float = 1.0, centred: bool = True
) -> str:
    """A set of units [U, 3] at points [U, P, 3 or 4], whose pixels and wavelengths nobody knows."""
    directory.mkdir(parents=True)
    kernels = [kernels_of(unit, at, side, aspect) for unit, at in zip(units, points, strict=True)]
    np.save(directory / "kernels.npy", np.concatenate(kernels))
    np.save(directory / "points.npy", np.concatenate(points).astype(np.float32))
    np.save(directory / "units.npy", units.astype(np.float32))
    known = {"centred": centred, "sensor_mm": [20, 20 * aspect]}
    unknown = {"pixel_pitch_um": 0.0, "trace_px": side, "kernel_px": side, "channels": []}
    (directory / "manifest.json").write_text(json.dumps({"parameters": unknown | {"units": known}}))
    return str(directory)


def sets(
    directory: Path,
    units: int = 40,
    positions: int = 20,
    held_out: int = 6,
    side: int = SIDE,
    aspect: float = 1.0,
    nearest: dict[str, float] | None = None,
    centred: bool = True,
) -> dict[str, str]:
    """Every set, as a preparation makes them.

    Args:
        centred: what the sets say of the design; these kernels are those of a centred one.
        nearest: of `depth_mm`, and of `focus_mm`, where they vary: from there to `FAR`, at random but where units are observed.
    """
    rng, depths = np.random.default_rng(0), np.random.default_rng(1)
    nearest = nearest or {}

    def at_distances(places: np.ndarray, known: bool = False) -> np.ndarray:
        columns = [places]
        for name in ("depth_mm", *(["focus_mm"] if "focus_mm" in nearest else [])):
            near = FAR if known else nearest.get(name, FAR)
            columns.append(1 / depths.uniform(1 / near, 1 / FAR, (*places.shape[:-1], 1)))
        return np.concatenate(columns, axis=-1)

    line = np.linspace(-0.9, 0.9, GRID_SIDE)
    grid = at_distances(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2), known=True)
    away = {name: at_distances(rng.uniform(-1, 1, (held_out, 2))) for name in ("validation", "test")}
    train = rng.normal(size=(units, 3)), at_distances(rng.uniform(-1, 1, (units, positions, 2)))
    made = {"train": write(directory / "train", *train, side, aspect, centred)}
    for name, extra in away.items():
        at = np.broadcast_to(np.concatenate([grid, extra]), (8, 25 + held_out, grid.shape[1]))
        made[name] = write(directory / name, rng.normal(size=(8, 3)), at, side, aspect, centred)
    everywhere = np.concatenate([grid, *away.values()])[None]
    alone = 0.5 * np.concatenate([np.eye(3), -np.eye(3)])
    if nearest:
        made["distances"] = json.dumps({name: (FAR, near) for name, near in nearest.items()})
    return made | {
        "nominal": write(directory / "nominal", np.zeros((1, 3)), everywhere, side, aspect, centred),
        "effects": write(directory / "effects", alone, everywhere.repeat(6, axis=0), side, aspect, centred),
    }
