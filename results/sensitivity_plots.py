"""How much each hyperparameter matters, and how the objective responds to it, as figures (results/sensitivity.py)."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from pandas import DataFrame

from results.sensitivity import Effect, Sensitivity
from spaces.drawing import BLUE, GREY, INK, ORANGE, Drawing, dress, logarithmic, new_figure
from spaces.study import Study

COLUMNS = 4
"""Responses in a row."""


def sensitivity_figure(found: Sensitivity, metric: str) -> Drawing:
    """The effect of each hyperparameter with its 95 % interval, and its share of the variance (total Sobol index)."""
    table = DataFrame(
        [
            (one.name, one.effect.mean, one.effect.low, one.effect.high, one.share, one.level or "")
            for one in found.effects
        ],
        columns=["hyperparameter", "effect", "low", "high", "share", "level"],
    )
    figure = new_figure(7.6, 1.0 + 0.28 * len(table), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    places = np.arange(len(table))
    errors = (table["effect"] - table["low"], table["high"] - table["effect"])
    left.errorbar(table["effect"], places, xerr=errors, fmt="o", color=BLUE, markersize=5, capsize=3, linewidth=1.3)
    left.axvline(1 if found.ratio else 0, color=GREY, linewidth=0.8)
    if found.ratio:
        left.set_xscale("log")
        most = table["high"].max()
        ticks = [tick for tick in (1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000) if tick <= 1.1 * most]
        left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        left.set_xticks([], minor=True)
    right.barh(places, table["share"], height=0.55, color=BLUE)
    right.set_xlim(0, max(1.0, float(table["share"].max())))
    left.set_yticks(places, table["hyperparameter"])
    left.invert_yaxis()
    worst = "worst / best value of the range" if found.ratio else "worst - best value of the range"
    dress(left, f"{metric}: {worst}, 95 % interval")
    dress(right, "share of variance")
    right.tick_params(axis="y", length=0)
    figure.suptitle(f"Effect at step {found.step:,}, of {found.trials} trials", fontsize=10, color=INK)
    return Drawing(figure, table)


def response_figure(found: Sensitivity, study: Study, metric: str) -> Drawing:
    """The objective over the values of each hyperparameter, on average over the others, with its 95 % interval, and about the best trial."""
    rows = [
        (one.name, value, response.mean, response.low, response.high, local.mean)
        for one in found.effects
        for value, response, local in zip(one.values, one.response, one.local, strict=True)
    ]
    names = ["hyperparameter", "value", "objective", "low", "high", "at_best"]
    table = DataFrame(rows, columns=names)
    columns = min(COLUMNS, len(found.effects))
    lines = math.ceil(len(found.effects) / columns)
    figure = new_figure(2.1 * columns + 0.6, 1.75 * lines + 0.6, layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axis, one in zip(axes.flat, found.effects, strict=False):
        _response(axis, one, table[table["hyperparameter"] == one.name], study)
    for axis in axes.flat[len(found.effects) :]:
        axis.set_visible(False)
    if found.ratio:
        logarithmic(axes[0, 0], "y", table[["low", "high", "at_best"]].to_numpy())
    figure.supylabel(metric, fontsize=9, color=INK)
    title = f"Response at step {found.step:,}: mean over the others, 95 % interval; orange: others as in the best trial"
    figure.suptitle(title, fontsize=10, color=INK)
    return Drawing(figure, table)


def _response(axis: Axes, effect: Effect, rows: DataFrame, study: Study) -> None:
    parameter = study.search[effect.name]
    mean, low, high, local = (rows[name].to_numpy() for name in ("objective", "low", "high", "at_best"))
    if parameter.choices is not None:
        places = np.arange(len(rows))
        axis.errorbar(places, mean, yerr=(mean - low, high - mean), fmt="o", color=BLUE, markersize=4, capsize=3)
        axis.plot(places, local, "D", color=ORANGE, markersize=4)
        axis.set_xticks(places, [str(value) for value in effect.values])
        axis.set_xlim(-0.5, len(rows) - 0.5)
    else:
        values = rows["value"].to_numpy(float)
        axis.fill_between(values, low, high, color=BLUE, alpha=0.2, linewidth=0)
        axis.plot(values, mean, color=BLUE, linewidth=1.5)
        axis.plot(values, local, color=ORANGE, linewidth=1.2, linestyle="--")
        if parameter.log:
            axis.set_xscale("log")
    dress(axis, effect.name)
