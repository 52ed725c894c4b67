"""Pictures in rows and columns, with their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from spaces.drawing import GREY, INK, new_figure

TILE = 0.58
"""Side of a tile in inches."""
LETTER = 0.066
"""Width in inches of a letter of a row's name, on average."""
GAP = 0.07
"""Between tiles, as a fraction of their side."""
MORE = 0.1
"""Inches of room before a row or column that begins something else."""


def tile_figure(
    tiles: NDArray[Any],
    title: str,
    rows: Sequence[str],
    *,
    columns: Sequence[str] = (),
    note: str,
    breaks: Sequence[int] = (),
    walls: Sequence[int] = (),
    side: float = TILE,
) -> Figure:
    """Tiles [R, M, H, W] in grey, or [R, M, H, W, 3], in [0, 1] or in 0..255 as whole numbers, with their rows' and columns' names.

    Args:
        breaks, walls: rows and columns before which there is more room.
        side: of a tile, in inches.
    """
    count, width = tiles.shape[:2]
    step = side * (1 + GAP)
    left = max(0.8, 0.2 + LETTER * max(map(len, rows)))
    right, top, bottom = 0.15, 0.62 if columns else 0.45, 0.35
    down = [step * row + MORE * sum(row >= one for one in breaks) for row in range(count)]
    along = [left + step * column + MORE * sum(column >= one for one in walls) for column in range(width)]
    size = (along[-1] + side + right, top + down[-1] + side + bottom)
    figure = new_figure(*size)
    axes = figure.add_axes((0, 0, 1, 1))  # in inches: one axis for all tiles is drawn ten times as fast as one for each
    axes.set_axis_off()
    most = 255 if tiles.dtype.kind == "u" else 1
    for row in range(count):
        below = size[1] - top - down[row] - side
        for column in range(width):
            extent = (along[column], along[column] + side, below, below + side)
            axes.imshow(tiles[row, column], cmap="gray", vmin=0, vmax=most, extent=extent, interpolation="none")
        axes.text(left - 0.1, below + side / 2, rows[row], fontsize=8.5, color=INK, ha="right", va="center")
    for column, name in enumerate(columns):
        middle = along[column] + side / 2
        axes.text(middle, size[1] - top + 0.1, name, fontsize=8, color=GREY, ha="center", va="center")
    axes.text(left, size[1] - 0.22, title, fontsize=11, color=INK, va="center")
    axes.text(left, 0.14, note, fontsize=7.5, color=GREY, va="center")
    axes.set(xlim=(0, size[0]), ylim=(0, size[1]), aspect="auto")
    return figure
