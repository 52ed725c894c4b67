"""What the latent of a model of kernels means: one direction at a time, and the way from one field point to another.

Shape legend: R = rows, M = columns, D = directions, L = latent dimension, C = channel, K = kernel pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.drawing import Drawing, pixel_table
from trainables.psf.figures.kernels import GAMMA, colours
from trainables.tiles import tile_figure

MOVED, STEPS, FARTHEST = 6, 7, 3.0
"""Directions that are moved along, in how many steps, and how far from the middle in standard deviations."""
ON_THE_WAY = 9
SIDE = 0.8  # of a tile in inches
BRIGHTNESS = f"brightness: (value / peak)^{GAMMA:g}"


def traversal_figure(
    decode: Callable[[Tensor], Tensor], middle: Tensor, directions: Tensor, names: Sequence[str], where: str
) -> Drawing:
    """The directions of a latent that change a kernel most, one moved along at a time.

    Args:
        decode: [B, L] -> kernels [B, C, K, K].
        middle: [L], the latent that is started from.
        directions: [D, L], each a standard deviation long.
        names: what the D directions are called.
        where: the field point, in words.
    """
    steps = torch.linspace(-FARTHEST, FARTHEST, STEPS)
    change = decode(middle + directions) - decode(middle - directions)
    most = change.flatten(1).square().sum(dim=1).argsort(descending=True, stable=True)[:MOVED]
    z = middle + steps[None, :, None] * directions[most][:, None]
    kernels = decode(z.flatten(0, 1)).unflatten(0, z.shape[:2]).numpy()
    chosen = [names[direction] for direction in most.tolist()]
    return _kernel_tiles(
        kernels,
        kernels[:, STEPS // 2 : STEPS // 2 + 1],
        f"Moves along the latent that change the PSF most, {where}",
        ("direction", chosen, chosen),
        ("deviations", steps.tolist(), [f"{step:+g}" if step else "0" for step in steps.tolist()]),
        f"above: standard deviations; {BRIGHTNESS} of the middle column",
    )


def interpolation_figure(rows: Mapping[str, Tensor], share: Sequence[float], title: str, note: str) -> Drawing:
    """Kernels [M, C, K, K] on the way between two ends, several ways of finding them; all of a column on the scale of the first.

    Args:
        share: of the way, M of them.
    """
    kernels = torch.stack([*rows.values()]).numpy()
    return _kernel_tiles(
        kernels,
        kernels[:1],
        title,
        ("way", [*rows], [*rows]),
        ("share", share, [f"{one:.0%}" for one in share]),
        f"{note}; {BRIGHTNESS} of the first row",
    )


def way(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Shares [M] of the way between two vectors [D], and the points [M, D] there."""
    share = torch.linspace(0, 1, ON_THE_WAY)
    return share, first + share[:, None] * (last - first)


def _kernel_tiles(
    kernels: NDArray[np.floating],
    scale: NDArray[np.floating],
    title: str,
    rows: tuple[str, Sequence[object], Sequence[str]],
    columns: tuple[str, Sequence[object], Sequence[str]],
    note: str,
) -> Drawing:
    """Kernels [R, M, C, K, K] as tiles, each on the scale of the peaks of `scale` [R or 1, M or 1, C, K, K].

    Args:
        rows, columns: of each the table's heading, its values and the names that are shown.
    """
    relative = kernels / scale.max(axis=(-2, -1), keepdims=True)
    count, width = kernels.shape[:2]
    shown = colours(relative.reshape(count * width, *kernels.shape[2:])).reshape(count, width, *kernels.shape[3:], 3)
    figure = tile_figure(shown, title, rows[2], columns=columns[2], note=note, side=SIDE)
    keys = {
        rows[0]: [value for value in rows[1] for _ in range(width)],
        columns[0]: [*columns[1]] * count,
    }
    return Drawing(figure, pixel_table(keys, value=kernels.reshape(count * width, *kernels.shape[2:])))
