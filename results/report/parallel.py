"""Parallel coordinates: an axis for each hyperparameter and one for the objective, a line for each trial, which report.js filters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from results.analysis import Analysis
from results.formatting import duration, number
from results.records import TrialRecord
from results.report.charts import MOST_TRIALS, Chart, drawn, is_log, kind, label
from results.report.scales import Scale, around, of_parameter
from results.report.svg import LETTER, WIDTH, element, path, picture
from results.report.tables import Data
from spaces.study import Scalar

HEIGHT = 380.0
TOP, FOOT, LEFT, RIGHT = 46.0, 330.0, 40.0, 56.0
NONE = HEIGHT - 22
"""Height of trials that do not have a hyperparameter."""
LEAST_GAP = 66.0
"""Pixels between two axes, so that their values can be read."""


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    scale: Scale
    values: dict[int, Scalar]


@dataclass(frozen=True, slots=True)
class Parallel:
    """The chart, and what report.js filters by: axes, and the place of each trial on each of them (null: it has none there)."""

    chart: Chart
    axes: list[dict[str, Any]]
    trials: list[dict[str, Any]]


def parallel(analysis: Analysis) -> Parallel | None:
    """All trials that have reported; None if none has, or nothing is searched.

    The axes are in the order of their effect, the largest beside the objective, where that is known; else in the space's.
    """
    trials, axes = drawn(analysis), _axes(analysis)
    if not trials or len(axes) < 2:
        return None
    across, width = _places(axes)
    parts = [element("g", *(_line(one, axes, across, analysis) for one in trials), class_="lines")]
    if any(len(axis.values) < len(trials) for axis in axes):
        parts.append(element("text", "none", x=4.0, y=NONE + 4, class_="tick"))
    parts += [_axis(index, axis, x) for index, (axis, x) in enumerate(zip(axes, across, strict=True))]
    title = f"{len(trials)} trials: their hyperparameters and {analysis.title}"
    if len(analysis.ranking) > MOST_TRIALS:
        title = f"The best {title} (of {len(analysis.ranking):,})"
    chart = Chart(title, picture(width, HEIGHT, title, parts), _data(analysis))
    places = [
        {
            "number": one.number,
            "state": one.state,
            "places": [
                axis.scale.place(axis.values[one.number]) if one.number in axis.values else None for axis in axes
            ],
            "label": label(one, analysis),
        }
        for one in sorted(trials, key=lambda one: one.number)
    ]
    return Parallel(chart, [{"name": axis.name, **axis.scale.described()} for axis in axes], places)


def _axes(analysis: Analysis) -> list[_Axis]:
    trials, study = drawn(analysis), analysis.study
    known = [one.name for one in reversed(analysis.sensitivity.effects)]
    found = []
    for name in known or study.search:
        values = {one.number: one.params[name] for one in trials if name in one.params}
        if values:
            scale = of_parameter(study.search[name], study.is_integer(name), values.values())
            found.append(_Axis(name, scale, values))
    reached = {one.number: best[1] for one in trials if (best := one.best(analysis.mode)) is not None}
    return [*found, _Axis(analysis.title, around(list(reached.values()), is_log(analysis)), dict(reached))]


def _places(axes: list[_Axis]) -> tuple[list[float], float]:
    """Where each axis stands, with room for its values on its right, and the width of the whole."""
    gaps = [max(LEAST_GAP, 12 + LETTER * max(len(text) for _, text in axis.scale.ticks())) for axis in axes[:-1]]
    spare = max(0.0, WIDTH - LEFT - RIGHT - sum(gaps)) / len(gaps)
    across = list(accumulate((gap + spare for gap in gaps), initial=LEFT))
    return across, across[-1] + RIGHT


def _height(place: float) -> float:
    return FOOT - place * (FOOT - TOP)


def _line(trial: TrialRecord, axes: list[_Axis], across: list[float], analysis: Analysis) -> Markup:
    heights = [
        _height(axis.scale.place(axis.values[trial.number])) if trial.number in axis.values else NONE for axis in axes
    ]
    course = element("path", d=path(zip(across, heights, strict=True)), class_="course")
    said = element("title", label(trial, analysis))
    return element("g", said, course, class_=kind(trial, analysis), data_trial=trial.number)


def _axis(index: int, axis: _Axis, x: float) -> Markup:
    """An axis with its name, in one of two rows so that long ones have room, and where a pointer takes hold of it."""
    parts = [element("line", x1=x, x2=x, y1=TOP, y2=FOOT, class_="axis")]
    for place, text in axis.scale.ticks(5):
        parts.append(element("text", text, x=x + 5, y=_height(place) + 3.5, class_="tick halo"))
    parts.append(element("text", axis.name, x=x, y=14.0 if index % 2 else 32.0, class_="name middle"))
    parts.append(element("rect", x=x - 5, y=TOP, width=10.0, height=FOOT - TOP, class_="brush", data_axis=index))
    parts.append(element("rect", x=x - 14, y=TOP, width=28.0, height=FOOT - TOP, class_="grab", data_axis=index))
    return element("g", *parts)


def _data(analysis: Analysis) -> Data:
    """Every trial, failed ones too."""
    names = [name for name in analysis.study.search if any(name in one.params for one in analysis.trials)]
    rows = []
    for one in analysis.trials:
        best = one.best(analysis.mode)
        reached = ["-", "-"] if best is None else [number(best[1]), f"{best[0]:,}"]
        values = (number(one.params[name]) if name in one.params else "-" for name in names)
        rows.append([f"#{one.number}", one.state, *reached, *values, duration(one.seconds)])
    return Data(["trial", "state", f"best {analysis.title}", "at step", *names, "lane time"], rows)
