"""Figures of a run: true and generated PSFs side by side, and the course of the search. Drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from results.records import TrialRecord
from spaces.metrics import Mode

# N = field point, C = channel (wavelength, red first), K = kernel pixel
Array = NDArray[np.float64]

INK, GREY = "#1f2430", "#8a90a0"
COLOURS = {"COMPLETE": "#3d6fb6", "PRUNED": "#b9c3d6", "RUNNING": "#7fb69a", "FAIL": "#c9a0a0"}
BEST, DOCUMENT = "#d1495b", "#e39c2a"
# Displayed brightness is (value / peak)^GAMMA, so that a coma's tail shows beside its core.
GAMMA = 0.5


@dataclass(frozen=True)
class PsfGrid:
    """The pixels of the picture: for each shown position two colour images [K, K, 3] in 0..1 on one scale per
    position, and the signed difference [K, K] as a fraction of the true channel's peak, of the channel where it is
    largest: a mean over channels would hide errors of opposite sign."""

    points: Array
    true: Array
    generated: Array
    residual: Array
    error: Array
    """Relative L2 error per position."""


def psf_grid(true: Array, generated: Array, points: Array) -> PsfGrid:
    """Scale kernels [N, C, K, K] for display: true and generated of a position share one scale per channel."""
    peak = true.max(axis=(2, 3), keepdims=True)
    difference = generated - true
    error = np.sqrt((difference**2).sum(axis=(1, 2, 3)) / (true**2).sum(axis=(1, 2, 3)))
    relative = difference / peak
    worst = np.abs(relative).argmax(axis=1, keepdims=True)
    return PsfGrid(
        points=points,
        true=_colours(true / peak),
        generated=_colours(generated / peak),
        residual=np.take_along_axis(relative, worst, axis=1)[:, 0],
        error=error,
    )


def psf_grid_figure(true: Array, generated: Array, points: Array) -> Figure:
    """Columns are field positions, as given; rows are the true kernels, the generated ones, and their difference.

    Args:
        true, generated: [N, C, K, K], each channel sums to one; C is 1 or 3 (red first).
        points: [N, 2 or more], normalised field coordinates x and y first.
    """
    grid = psf_grid(np.asarray(true, float), np.asarray(generated, float), np.asarray(points, float))
    count = len(grid.points)
    figure = _figure(1.45 * count + 1.5, 5.5)
    axes = figure.subplots(3, count, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.06})
    figure.subplots_adjust(
        left=0.95 / (1.45 * count + 1.5), right=1 - 0.75 / (1.45 * count + 1.5), top=0.86, bottom=0.09
    )
    limit = _round_up(float(np.abs(grid.residual).max()))
    for column in range(count):
        axes[0, column].imshow(grid.true[column])
        axes[1, column].imshow(grid.generated[column])
        shown = axes[2, column].imshow(grid.residual[column], cmap="RdBu_r", vmin=-limit, vmax=limit)
        x, y = grid.points[column, :2]
        axes[0, column].set_title(f"({x:.2f}, {y:.2f})", fontsize=9, color=INK, pad=5)
        axes[2, column].set_xlabel(f"{grid.error[column]:.3f}", fontsize=9, color=INK, labelpad=5)
    for row, title in enumerate(("ray-traced", "generated", "difference")):
        axes[row, 0].set_ylabel(title, fontsize=10, color=INK, labelpad=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    box = axes[2, -1].get_position()
    bar = figure.add_axes((box.x1 + 0.012, box.y0, 0.012, box.height))
    figure.colorbar(
        shown, cax=bar, ticks=[-limit, 0, limit], format=lambda value, _: f"{100 * value:+.2g} %" if value else "0"
    )
    bar.tick_params(labelsize=8, colors=INK, length=0)
    bar.spines[:].set_visible(False)
    figure.text(
        axes[0, 0].get_position().x0,
        0.945,
        "PSFs from the centre of the field to its corner, at positions the model was not trained on",
        fontsize=11,
        color=INK,
        va="center",
    )
    figure.text(
        axes[0, 0].get_position().x0,
        0.012,
        f"below: relative L2 error. Brightness: (value / true peak)^{GAMMA:g}, same scale for both rows of a position; "
        "difference: the largest of the channels, % of its true peak",
        fontsize=7.5,
        color=GREY,
        va="bottom",
    )
    return figure


@dataclass(frozen=True)
class Curve:
    """One trial's course: finite reports only, steps [R] and objective [R]."""

    number: int
    state: str
    recommended: bool
    steps: Array
    values: Array


def history(trials: Sequence[TrialRecord]) -> list[Curve]:
    """The courses of all trials that reported a finite objective."""
    curves = []
    for trial in trials:
        points = np.array([point for point in trial.history if math.isfinite(point[1])], float).reshape(-1, 2)
        if len(points):
            curves.append(Curve(trial.number, trial.state, trial.recommended, points[:, 0], points[:, 1]))
    return curves


def history_figure(
    trials: Sequence[TrialRecord],
    *,
    metric: str,
    mode: Mode,
    rungs: Sequence[int],
    baselines: dict[str, float] | None = None,
) -> Figure:
    """Objective against step for every trial; the best and the documents' trial stand out, rungs are marked.

    Args:
        trials: a run's records.
        metric: name for the axis.
        rungs: steps at which trials are stopped.
        baselines: horizontal lines by label, e.g. the error of interpolation.
    """
    curves = history(trials)
    figure = _figure(7.2, 4.4)
    axis = figure.add_axes((0.1, 0.13, 0.72, 0.76))
    positive = all((curve.values > 0).all() for curve in curves) and bool(curves)
    axis.set_xscale("log")
    axis.set_yscale("log" if positive else "linear")
    for rung in rungs:
        axis.axvline(rung, color="#e4e7ee", linewidth=1, zorder=0)
    reach = (lambda curve: curve.values.min()) if mode == "min" else (lambda curve: -curve.values.max())
    candidates = [curve for curve in curves if curve.state != "FAIL"]
    best = min(candidates, key=reach) if candidates else None
    for curve in curves:
        axis.plot(curve.steps, curve.values, color=COLOURS.get(curve.state, GREY), linewidth=0.9, alpha=0.8, zorder=1)
        axis.plot(curve.steps[-1], curve.values[-1], ".", color=COLOURS.get(curve.state, GREY), markersize=4, zorder=1)
    labels: list[tuple[float, str, str]] = []
    for curve, colour, text in _highlights(curves, best):
        axis.plot(curve.steps, curve.values, color=colour, linewidth=2, zorder=3)
        axis.plot(curve.steps[-1], curve.values[-1], "o", color=colour, markersize=4.5, zorder=3)
        labels.append((float(curve.values[-1]), text, colour))
    for label, value in (baselines or {}).items():
        axis.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
        labels.append((value, label, GREY))
    _dress(axis, metric, rungs, curves)
    _label_right(axis, labels)
    figure.text(0.1, 0.94, f"{len(curves)} trials, one line each", fontsize=11, color=INK, va="center")
    return figure


def _highlights(curves: Sequence[Curve], best: Curve | None) -> list[tuple[Curve, str, str]]:
    found = [(curve, DOCUMENT, "documents' values") for curve in curves if curve.recommended and curve is not best]
    if best is not None:
        found.append((best, BEST, f"best: #{best.number}"))
    return found


def _dress(axis: Axes, metric: str, rungs: Sequence[int], curves: Sequence[Curve]) -> None:
    if axis.get_yscale() == "log":
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.yaxis.set_minor_locator(NullLocator())
    ends = sorted({*rungs, *(int(curve.steps[-1]) for curve in curves if curve.state == "COMPLETE")})
    axis.set_xticks(ends, [f"{step:,}" for step in ends])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("optimizer step (lines: rungs)", fontsize=9, color=INK)
    axis.set_ylabel(metric, fontsize=9, color=INK)
    axis.tick_params(labelsize=8, colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(GREY)


def _label_right(axis: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names at the right edge, moved apart where they would overlap."""
    to_axes = axis.transData + axis.transAxes.inverted()
    below = -math.inf
    for value, text, colour in sorted(labels):
        height = max(to_axes.transform((axis.get_xlim()[1], value))[1], below + 0.05)
        axis.text(1.015, height, text, transform=axis.transAxes, fontsize=8.5, color=colour, va="center")
        below = height


def contact_sheet(kernels: NDArray[np.floating], columns: int | None = None) -> Array:
    """One picture [H, W, 3] in 0..1 of kernels [N, C, K, K], each on the scale of its own peak per channel.

    Args:
        columns: kernels in a row, x rising to the right; rows rise upwards like y. Default: about as many as rows.
    """
    shown = _colours(kernels / kernels.max(axis=(2, 3), keepdims=True))
    columns = columns or math.ceil(math.sqrt(len(shown)))
    rows, side = math.ceil(len(shown) / columns), shown.shape[1] + 1
    sheet = np.full((rows * side + 1, columns * side + 1, 3), 0.25)
    for index, kernel in enumerate(shown):
        top, left = (rows - 1 - index // columns) * side + 1, index % columns * side + 1
        sheet[top : top + side - 1, left : left + side - 1] = kernel
    return sheet


def save_contact_sheet(path: Path, kernels: NDArray[np.floating], columns: int | None = None) -> None:
    """Write `contact_sheet` as a PNG, a pixel for a kernel's pixel."""
    imsave(path, contact_sheet(kernels, columns))


def _colours(kernels: Array) -> Array:
    """[N, C, K, K] in units of the peak -> [N, K, K, 3] in 0..1; one channel is shown through a colour map."""
    bright = np.clip(kernels, 0, 1) ** GAMMA
    if bright.shape[1] == 3:
        return np.moveaxis(bright, 1, -1)
    return np.asarray(colormaps["inferno"](bright.mean(axis=1))[..., :3])


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, so that a colour bar has a readable end."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-12)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) on a canvas without a display; `figure.savefig(path, dpi=160)` writes it."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure
