"""A test chart, drawn: what a picture loses through a lens is seen on it without anybody's photograph."""

from __future__ import annotations

import torch
from torch import Tensor

COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.35, 0.25), (0.35, 0.8, 0.4), (0.3, 0.5, 1.0), (1.0, 0.85, 0.3))
SMOOTH = 4
"""Samples of a pixel along each side."""


def chart(rows: int, columns: int, cell: int = 64, spokes: int = 18) -> Tensor:
    """The light [1, 3, H, W], in [0, 1], of Siemens stars in cells, each on a disc of its own colour, and checks between them.

    Args:
        rows, columns: H and W in pixels.
        cell: side of a cell in pixels.
        spokes: of a star; half of them are dark.
    """
    y, x = ((torch.arange(SMOOTH * n) + 0.5) / SMOOTH / cell for n in (rows, columns))
    row, column = y.floor().long()[:, None], x.floor().long()[None]
    v, u = (y % 1 - 0.5)[:, None], (x % 1 - 0.5)[None]
    radius, angle = torch.hypot(u, v), torch.atan2(v, u)
    star = (spokes / 2 * angle).sin() > 0
    checks = ((8 * (x % 1)).floor()[None] + (8 * (y % 1)).floor()[:, None]) % 2 > 0
    colours = torch.tensor(COLOURS)[(row + 2 * column) % len(COLOURS)].permute(2, 0, 1)
    inside = radius < 0.46
    light = torch.where(inside, torch.where(star, colours, 0.02), torch.where(checks, 0.45, 0.18))
    return light.unfold(1, SMOOTH, SMOOTH).unfold(2, SMOOTH, SMOOTH).mean(dim=(-2, -1))[None]
