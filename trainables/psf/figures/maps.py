"""Figures over the field: whiskers, sizes, errors. True kernels beside a model's.

Shape legend: N = field point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from spaces.drawing import GREY, INK, MODEL, Drawing, dress, new_figure
from trainables.psf.field_kernels import FieldKernels
from trainables.psf.figures.kernels import ROWS, over_the_sensor, round_up
from trainables.psf.metrics import relative_l2
from trainables.psf.shapes import Shape, shape_of

Array = NDArray[np.float64]

WHISKER = 0.16
"""Length of the longest whisker over half the sensor's width."""
NOTE = "Moments of all channels' light within the window, not weighted."


def whisker_figure(kernels: FieldKernels) -> Drawing:
    """Ellipticity over the field as whiskers along the long axis, of length |g| (as Piff draws them), and its error."""
    field = kernels.at_like_distances
    true, generated = (shape_of(one.double().sum(dim=1)) for one in (field.true, field.generated))
    columns: dict[str, Array] = dict(field.keys)
    for name, shape in (("true", true), ("generated", generated)):
        columns |= {f"{name}_g1": shape.g1.numpy(), f"{name}_g2": shape.g2.numpy()}
    columns |= {f"difference_{g}": columns[f"generated_{g}"] - columns[f"true_{g}"] for g in ("g1", "g2")}
    for name in ("true", "generated", "difference"):
        columns[f"{name}_w1"], columns[f"{name}_w2"] = _whiskers(columns[f"{name}_g1"], columns[f"{name}_g2"])
    table = DataFrame(columns)
    figure = new_figure(10.2, 4.2, layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    longest = max(float(np.hypot(table[f"{name}_w1"], table[f"{name}_w2"]).max()) for name in ("true", "generated"))
    widest = float(np.hypot(table["difference_w1"], table["difference_w2"]).max())
    for axis, title, name, most in zip(
        axes, ROWS, ("true", "generated", "difference"), (longest, longest, widest), strict=True
    ):
        unit = round_up(most or 1.0)
        arrows = axis.quiver(
            table["x_mm"],
            table["y_mm"],
            table[f"{name}_w1"],
            table[f"{name}_w2"],
            angles="xy",
            scale_units="xy",
            scale=unit / (WHISKER * 2 * field.half_mm[0]),
            pivot="middle",
            headwidth=0,
            headlength=0,
            headaxislength=0,
            width=0.004,
            color=INK if name != "difference" else MODEL,
        )
        over_the_sensor(axis, field, "")
        axis.quiverkey(arrows, 0.78, 1.05, unit, f"|g| = {unit:g}", labelpos="E", fontproperties={"size": 8})
        axis.set_title(title, fontsize=9, color=INK, loc="left")
    figure.suptitle(field.title("Ellipticity over the field"), fontsize=10, color=INK)
    figure.supxlabel(f"{NOTE} g: (a - b) / (a + b) along the long axis.", fontsize=7.5, color=GREY)
    return Drawing(figure, table)


def size_figure(kernels: FieldKernels) -> Drawing:
    """RMS radius over the field, and its relative error."""
    field = kernels.at_like_distances
    shapes: list[Shape] = [shape_of(one.double().sum(dim=1)) for one in (field.true, field.generated)]
    true, generated = (one.size.clamp_min(0).sqrt().numpy() * field.pixel_um for one in shapes)
    error = 100 * (generated - true) / true
    table = DataFrame(field.keys | {"true_rms_um": true, "generated_rms_um": generated, "difference_percent": error})
    figure = new_figure(10.6, 3.9, layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    common = Normalize(min(true.min(), generated.min()), max(true.max(), generated.max()))
    limit = round_up(float(np.abs(error).max()))
    for axis, title, values in zip(axes[:2], ROWS, (true, generated), strict=False):
        dots = _map(axis, field, values, title, cmap="viridis", norm=common)
    _bar(figure, dots, axes[:2], "RMS radius (um)")
    dots = _map(axes[2], field, error, ROWS[2], cmap="RdBu_r", norm=Normalize(-limit, limit), edgecolors=GREY)
    _bar(figure, dots, axes[2], "generated - true (% of true)")
    figure.suptitle(field.title("Size over the field"), fontsize=10, color=INK)
    figure.supxlabel(f"{NOTE} RMS radius: the root of T = Ixx + Iyy.", fontsize=7.5, color=GREY)
    return Drawing(figure, table)


def error_map_figure(kernels: FieldKernels, errors: Array | None = None, of: str = "") -> Drawing:
    """Relative L2 error over the field, and over the distance from its centre.

    Args:
        errors: [N] at the same points, of what `of` says, if not of these kernels.
    """
    values = relative_l2(kernels.generated, kernels.true).double().numpy() if errors is None else errors
    table = DataFrame(kernels.keys | {"radius_mm": kernels.radius_mm, "rel_l2": values})
    figure = new_figure(9.0, 4.0, layout="constrained")
    left, right = figure.subplots(1, 2)
    dots = _map(left, kernels, values, "", cmap="viridis", norm=Normalize(values.min(), values.max()))
    _bar(figure, dots, left, "relative L2 error")
    right.plot(table["radius_mm"], table["rel_l2"], "o", color=INK, markersize=3, alpha=0.6)
    dress(right, "distance from the centre (mm)", "relative L2 error")
    right.set_ylim(bottom=0)
    words = f"Error over the field, {of}" if of else kernels.title("Error over the field")
    figure.suptitle(words, fontsize=10, color=INK)
    return Drawing(figure, table)


def _map(axis: Axes, field: FieldKernels, values: Array, title: str, **colours: Any) -> Any:
    """Values at the field points, as colours."""
    size = 28 if len(values) > 80 else 90
    dots = axis.scatter(field.x_mm, field.y_mm, c=values, s=size, linewidths=0.3, **colours)
    over_the_sensor(axis, field, title)
    return dots


def _bar(figure: Figure, dots: Any, axes: Any, words: str) -> None:
    bar = figure.colorbar(dots, ax=axes, shrink=0.85)
    bar.set_label(words, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)


def _whiskers(g1: Array, g2: Array) -> tuple[Array, Array]:
    """Along the long axis of an ellipse, as long as its ellipticity."""
    length, angle = np.hypot(g1, g2), np.arctan2(g2, g1) / 2
    return length * np.cos(angle), length * np.sin(angle)
