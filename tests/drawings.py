"""What figures show, read back from matplotlib, and what their CSV files say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from pandas import DataFrame, read_csv

from spaces.drawing import FORMATS, Drawing, save


def written(draw: Callable[[], Drawing], directory: Path) -> tuple[Figure, DataFrame]:
    """A figure that was written in all formats, and its CSV file."""
    drawn = save({"figure": draw}, directory)
    assert all((directory / f"figure.{one}").stat().st_size > 0 for one in FORMATS)
    assert "<text" in (directory / "figure.svg").read_text()
    return drawn["figure"].figure, read_csv(directory / "figure.csv")


def numbers(values: Iterable[float]) -> set[str]:
    """Finite values as a CSV file has them."""
    found = np.asarray([*values] if not isinstance(values, np.ndarray) else values, float).ravel()
    return {f"{value:.6g}" for value in found[np.isfinite(found)]}


def marks(axis: Axes, along: Literal["x", "y"]) -> set[str]:
    """Coordinates of all that is drawn on an axis as data: lines, bars of intervals, bands, dots, arrows."""
    place = "xy".index(along)
    # What spans an axis has its fractions as the other coordinate.
    found: list[Any] = [
        line.get_xydata() for line in axis.lines if axis.transData.contains_branch(line.get_transform())
    ]
    for one in axis.collections:
        if isinstance(one, Quiver):
            found.append(one.XY)
        elif isinstance(one, PathCollection):
            found.append(one.get_offsets())
        elif isinstance(one, LineCollection):
            found += one.get_segments()
        elif isinstance(one, PolyCollection):
            found += [path.vertices for path in one.get_paths()]
    return numbers(np.concatenate([np.asarray(points, float)[:, place] for points in found]))


def spanning(axis: Axes, along: Literal["x", "y"]) -> set[str]:
    """Where lines cross a whole axis."""
    place = "xy".index(along)
    lines = [
        np.asarray(line.get_xydata()) for line in axis.lines if not axis.transData.contains_branch(line.get_transform())
    ]
    return numbers([line[0, place] for line in lines if np.ptp(line[:, place]) == 0])


def values(axis: Axes) -> set[str]:
    """What the colours of dots stand for."""
    (dots,) = axis.collections
    return numbers(np.asarray(dots.get_array()))


def images(figure: Figure) -> list[np.ndarray]:
    """The arrays of all pictures, in the order in which they were drawn."""
    return [np.asarray(image.get_array()) for axis in figure.axes for image in axis.images]


def pixels(table: DataFrame, *columns: str) -> np.ndarray:
    """Of each panel of a table the values of a column [N, H, W], or of several [N, C, H, W]."""
    height, width = (int(table[name].max()) + 1 for name in ("row", "column"))
    found = [table[name].to_numpy().reshape(-1, height, width) for name in columns]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)
