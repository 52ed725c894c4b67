"""A figure and the numbers that it shows, so that its files, PNG, SVG and CSV, all say the same. Drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from pandas import DataFrame

FORMATS = ("png", "svg", "csv")
DPI = 150
INK, GREY = "#1f2430", "#8a90a0"
# Okabe and Ito (2008): colours that the colour-blind tell apart too.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
TRUE, MODEL = INK, VERMILION
# Text stays text, and the same figure is the same file.
SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "psf-search"}
DIGITS = "%.6g"
COLOURS = ("red", "green", "blue")

Keys = Mapping[str, Sequence[Any] | NDArray[Any]]
"""What names each of N panels: N values by their headings."""
Figures = Mapping[str, Callable[[], "Drawing"]]
"""Figures by their names; a call draws one."""


@dataclass(frozen=True)
class Drawing:
    """A figure, and all that it shows in numbers: a row for each mark or pixel. The columns' names have units."""

    figure: Figure
    table: DataFrame

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        file = io.BytesIO()
        self.figure.savefig(file, dpi=DPI)
        return file.getvalue()


def save(figures: Figures, directory: Path, formats: Iterable[str] = FORMATS) -> dict[str, Drawing]:
    """Draw figures and write each as NAME.FORMAT to a directory, which is made if need be.

    Args:
        formats: some of `FORMATS`.

    Raises:
        OSError: they cannot be written, such as on a full disk.
    """
    directory.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, draw in figures.items():
        drawn[name] = draw()
        for one in formats:
            _write(drawn[name], directory / f"{name}.{one}", one)
    return drawn


def _write(drawing: Drawing, path: Path, kind: str) -> None:
    if kind == "csv":
        drawing.table.to_csv(path, index=False, float_format=DIGITS, lineterminator="\n")
    elif kind == "svg":
        with rc_context(SVG):
            drawing.figure.savefig(path, metadata={"Date": None})
    else:
        drawing.figure.savefig(path, dpi=DPI)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """A figure (inches) on a canvas without a display."""
    figure = Figure(figsize=(width, height), facecolor="white", **options)
    FigureCanvasAgg(figure)
    return figure


def dress(axis: Axes, x: str, y: str = "") -> None:
    """The looks of an axis with numbers: its labels, with units, and no frame above and at the right."""
    axis.set_xlabel(x, fontsize=9, color=INK)
    axis.set_ylabel(y, fontsize=9, color=INK)
    axis.tick_params(labelsize=8, colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)


def logarithmic(axes: Axes, along: Literal["x", "y"], values: NDArray[np.floating]) -> None:
    """A logarithmic scale with plain numbers, of an axis on which these values are drawn."""
    axes.set(**{f"{along}scale": "log"})
    axis = axes.xaxis if along == "x" else axes.yaxis
    subs = (1, 2, 5) if values.max() > 8 * values.min() else (1, 1.5, 2, 2.5, 3, 4, 5, 7)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(NullLocator())


def pixel_table(keys: Keys, **stacks: NDArray[Any]) -> DataFrame:
    """Pixels as a table: a row for each pixel of each panel, with the panel's keys, its row, from the top, and its column.

    Args:
        keys: N values each, which name the panels.
        stacks: [N, H, W] each, or [N, C, H, W] for a column of each channel: red, green and blue if there are three.
    """
    first = next(iter(stacks.values()))
    count, (height, width) = len(first), first.shape[-2:]
    columns: dict[str, Any] = {
        name: np.repeat(np.asarray(values, dtype=None if _numbers(values) else object), height * width)
        for name, values in keys.items()
    }
    columns["row"] = np.tile(np.repeat(np.arange(height), width), count)
    columns["column"] = np.tile(np.arange(width), count * height)
    for name, stack in stacks.items():
        if stack.ndim == 3 or stack.shape[1] == 1:
            columns[name] = stack.reshape(-1)
        else:
            columns |= {
                f"{name}_{channel}": stack[:, place].reshape(-1)
                for place, channel in enumerate(channels(stack.shape[1]))
            }
    return DataFrame(columns)


def channels(count: int) -> tuple[str, ...]:
    """What the channels of a picture are called."""
    return COLOURS if count == len(COLOURS) else tuple(map(str, range(count)))


def _numbers(values: Sequence[object] | NDArray[Any]) -> bool:
    return all(isinstance(value, int | float | np.number) for value in values)
