"""The course of a search as a figure, and figures as PNG files. Drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from results.records import TrialRecord
from spaces.metrics import Mode, sign

Array = NDArray[np.float64]

INK, GREY = "#1f2430", "#8a90a0"
COLOURS = {"COMPLETE": "#3d6fb6", "PRUNED": "#b9c3d6", "RUNNING": "#7fb69a", "FAIL": "#c9a0a0"}
BEST, REFERENCE = "#d1495b", "#e39c2a"
DPI = 150


def save(figures: Mapping[str, Callable[[], Figure]], directory: Path) -> dict[str, Figure]:
    """Draw figures and write each as NAME.png to a directory, which is made if need be.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    directory.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, draw in figures.items():
        drawn[name] = draw()
        drawn[name].savefig(directory / f"{name}.png", dpi=DPI)
    return drawn


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
    """Objective against step for every trial; the best and the reference stand out, rungs are marked.

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
    candidates = [curve for curve in curves if curve.state != "FAIL"]
    best = min(candidates, key=lambda curve: float((sign(mode) * curve.values).min()), default=None)
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
    found = [(curve, REFERENCE, "reference") for curve in curves if curve.recommended and curve is not best]
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


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) on a canvas without a display; `figure.savefig(path, dpi=160)` writes it."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure
