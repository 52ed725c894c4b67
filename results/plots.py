"""The course and the outcome of a search as figures. All of a running search can be drawn but the comparison, which ends it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from pandas import DataFrame

from results.analysis import ranked
from results.final_tables import finalist_name, methods
from results.records import TrialRecord
from results.sensitivity import sensitivity
from results.sensitivity_plots import response_figure, sensitivity_figure
from results.summary import Final, Summary
from spaces.drawing import BLUE, GREEN, GREY, INK, ORANGE, VERMILION, Drawing, Figures, dress, logarithmic, new_figure
from spaces.metrics import SEALED, Metric, Mode, best, sign
from spaces.study import Budget, Study
from spaces.system import System

Array = NDArray[np.float64]

COLOURS = {"COMPLETE": BLUE, "PRUNED": "#b9c3d6", "RUNNING": GREEN, "FAIL": "#c9a0a0"}
WORDS = {"COMPLETE": "complete", "PRUNED": "stopped early", "RUNNING": "running", "FAIL": "failed"}
BEST, REFERENCE = VERMILION, ORANGE
LETTER = 0.075
"""Width in inches of a letter of a label, on average."""
SEARCH_FIGURES = ("history", "progress", "sensitivity", "responses", "comparison")
"""Those of every system."""


def search_figures(
    trials: Sequence[TrialRecord], study: Study, budget: Budget, summary: Summary | None = None
) -> Figures:
    """What draws each figure of a search, by name: those of `SEARCH_FIGURES` for which there is enough.

    Nothing is drawn before a trial has reported; effects of hyperparameters need as many trials as `results.sensitivity` says.

    Args:
        summary: of a search that has ended.
    """
    metric, mode = study.system.metrics[study.objective.metric], study.objective.mode
    if not history(trials):
        return {}
    baselines = {} if summary is None else _yardstick(summary, study.system, metric)
    figures = {
        "history": partial(
            history_figure, trials, metric=label(metric), mode=mode, rungs=budget.rungs(), baselines=baselines
        ),
        "progress": partial(progress_figure, trials, metric=label(metric), mode=mode),
    }
    effects = sensitivity(trials, study, budget)
    if not effects.reason:
        figures["sensitivity"] = partial(sensitivity_figure, effects, label(metric))
        figures["responses"] = partial(response_figure, effects, study, label(metric))
    if summary is not None:
        figures["comparison"] = partial(comparison_figure, summary.final, study.system)
    return figures


def label(metric: Metric) -> str:
    """A metric as an axis names it."""
    return metric.name if metric.unit == "1" else f"{metric.name} ({metric.unit})"


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
    baselines: Mapping[str, float] | None = None,
) -> Drawing:
    """Objective against step for every trial; the best and the reference stand out, rungs are marked.

    Args:
        trials: a run's records.
        metric: name for the axis.
        rungs: steps at which trials are stopped.
        baselines: horizontal lines by label, e.g. the error of interpolation.
    """
    curves, baselines = history(trials), baselines or {}
    beside = 0.3 + LETTER * max(len(name) for name in ("best: #000", *baselines))
    figure = new_figure(6.0 + beside, 4.4)
    axis = figure.add_axes((0.7 / (6.0 + beside), 0.13, 5.2 / (6.0 + beside), 0.76))
    axis.set_xscale("log")
    _scale(axis, np.concatenate([np.empty(0), *(curve.values for curve in curves)]))
    for rung in rungs:
        axis.axvline(rung, color="#e4e7ee", linewidth=1, zorder=0)
    candidates = [curve for curve in curves if curve.state != "FAIL"]
    best_one = min(candidates, key=lambda curve: float((sign(mode) * curve.values).min()), default=None)
    for curve in curves:
        colour = COLOURS.get(curve.state, GREY)
        axis.plot(curve.steps, curve.values, color=colour, linewidth=0.9, alpha=0.5, zorder=1)
        axis.plot(curve.steps[-1], curve.values[-1], ".", color=colour, markersize=4, zorder=1)
    labels: list[tuple[float, str, str]] = []
    for curve, colour, text in _highlights(curves, best_one):
        axis.plot(curve.steps, curve.values, color=colour, linewidth=2, zorder=3)
        axis.plot(curve.steps[-1], curve.values[-1], "o", color=colour, markersize=4.5, zorder=3)
        labels.append((float(curve.values[-1]), text, colour))
    for name, value in baselines.items():
        axis.axhline(value, color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
        labels.append((value, name, GREY))
    ends = sorted({*rungs, *(int(curve.steps[-1]) for curve in curves if curve.state == "COMPLETE")})
    axis.set_xticks(ends, [f"{step:,}" for step in ends])
    axis.set_xticks([], minor=True)
    dress(axis, "optimizer step (lines: rungs)", metric)
    _label_right(axis, labels)
    states = _states(curve.state for curve in curves)
    figure.text(
        axis.get_position().x0,
        0.94,
        f"{len(curves)} trials, one line each: {states}",
        fontsize=10,
        color=INK,
        va="center",
    )
    columns = ["series", "trial", "state", "step", "value"]
    rows: list[tuple[object, ...]] = [
        ("trial", curve.number, curve.state, int(step), value)
        for curve in curves
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    rows += [(name, None, None, None, value) for name, value in baselines.items()]
    return Drawing(figure, DataFrame(rows, columns=columns).astype({"trial": "Int64", "step": "Int64"}))


def progress_figure(trials: Sequence[TrialRecord], *, metric: str, mode: Mode) -> Drawing:
    """The best objective of each trial in the order of the trials, and the best of those that ended so far."""
    rows = [("trial", one.number, one.state, reached[1]) for one in trials if (reached := one.best(mode)) is not None]
    able = [one for one in ranked(trials, mode) if one.state == "COMPLETE" and one.violation == 0]
    so_far: list[tuple[str, int, str, float]] = []
    for one in sorted(able, key=lambda trial: trial.number):
        reached = one.best(mode)
        assert reached is not None
        value = best(mode, [reached[1], *(value for *_, value in so_far[-1:])])
        so_far.append(("best so far", one.number, one.state, value))
    table = DataFrame([*rows, *so_far], columns=["series", "trial", "state", "value"])
    figure = new_figure(7.2, 4.0, layout="constrained")
    axis = figure.subplots()
    _scale(axis, table["value"].to_numpy())
    of_trials = table[table["series"] == "trial"]
    for state, group in of_trials.groupby("state"):
        filled = state in ("COMPLETE", "RUNNING")
        colour = COLOURS.get(state, GREY)
        axis.plot(
            group["trial"],
            group["value"],
            "x" if state == "FAIL" else "o",
            color=colour,
            markerfacecolor=colour if filled else "white",
            markersize=4.5,
            label=WORDS.get(state, state.lower()),
        )
    line = table[table["series"] == "best so far"]
    if len(line):
        axis.plot(line["trial"], line["value"], drawstyle="steps-post", color=BEST, linewidth=1.6, label="best so far")
    dress(axis, "trial", metric)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return Drawing(figure, table)


def comparison_figure(final: Final, system: System) -> Drawing:
    """Finalists and baselines at the sealed test set, with 95 % intervals; small dots are single trainings."""
    metric = system.metrics[SEALED + final.metric]
    rows: list[tuple[object, ...]] = []
    for one in final.finalists:
        name = f"{finalist_name(one)}, winner" if one.number == final.winner else finalist_name(one)
        rows.append((name, "finalist", None, one.score.mean, one.score.low, one.score.high))
        rows += [(name, "training", training.seed, training.test, None, None) for training in one.trainings]
    for name, title in methods(system).items():
        if name in final.baselines:
            score = final.baselines[name].score
            rows.append((title, "baseline", None, score.mean, score.low, score.high))
    table = DataFrame(rows, columns=["method", "kind", "seed", "value", "low", "high"]).astype({"seed": "Int64"})
    table[["low", "high"]] = table[["low", "high"]].astype(float)
    means = table[table["kind"] != "training"]
    order = means.sort_values("value", ascending=metric.mode == "max")["method"].tolist()
    figure = new_figure(7.2, 0.9 + 0.3 * len(order), layout="constrained")
    axis = figure.subplots()
    for kind, colour in (("finalist", BEST), ("baseline", BLUE)):
        group = table[table["kind"] == kind]
        axis.errorbar(
            group["value"],
            [order.index(name) for name in group["method"]],
            xerr=(group["value"] - group["low"], group["high"] - group["value"]),
            fmt="o" if kind == "finalist" else "s",
            color=colour,
            markersize=5,
            capsize=3,
            linewidth=1.3,
        )
    group = table[table["kind"] == "training"]
    places = [order.index(name) + 0.28 for name in group["method"]]
    axis.plot(group["value"], places, ".", color=BEST, markersize=4, alpha=0.7)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    if metric.ratio and (table["value"] > 0).all():
        logarithmic(axis, "x", table["value"].to_numpy())
    axis.grid(axis="x", color="#e4e7ee", linewidth=0.8)
    axis.set_axisbelow(True)
    dress(axis, f"{label(metric)}, mean and 95 % interval")
    return Drawing(figure, table)


def _highlights(curves: Sequence[Curve], best_one: Curve | None) -> list[tuple[Curve, str, str]]:
    found = [(curve, REFERENCE, "reference") for curve in curves if curve.recommended and curve is not best_one]
    if best_one is not None:
        found.append((best_one, BEST, f"best: #{best_one.number}"))
    return found


def _states(states: Iterable[str]) -> str:
    """How many are in each state, in words."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{counts[state]} {word}" for state, word in WORDS.items() if state in counts)


def _yardstick(summary: Summary, system: System, metric: Metric) -> dict[str, float]:
    """The hardest of the baselines that were judged by a metric."""
    judged = [one for one in system.baselines if metric.measure in summary.test.get(one.name, {})]
    return {f"{one.title} (test)": summary.test[one.name][metric.measure] for one in judged[-1:]}


def _scale(axis: Axes, values: Array) -> None:
    """Logarithmic where all values are positive."""
    if len(values) and (values > 0).all():
        logarithmic(axis, "y", values)


def _label_right(axis: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names at the right edge, moved apart where they would overlap."""
    to_axes = axis.transData + axis.transAxes.inverted()
    below = -math.inf
    for value, text, colour in sorted(labels):
        height = max(to_axes.transform((axis.get_xlim()[1], value))[1], below + 0.05)
        axis.text(1.015, height, text, transform=axis.transAxes, fontsize=8.5, color=colour, va="center")
        below = height
