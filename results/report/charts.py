"""The charts of a report: each is a picture with the numbers behind it, made from what `results.analysis` found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from markupsafe import Markup

from results.analysis import Analysis
from results.comparison import Interval
from results.final_tables import finalist_name, methods, places
from results.formatting import decimals, duration, interval, number
from results.plots import Curve, history
from results.records import TrialRecord
from results.report.scales import Choices, Linear, Log, around, of_parameter
from results.report.svg import SMALL_TICKS, WIDTH, Frame, apart, element, path, picture
from results.report.tables import Data
from results.summary import Final
from spaces.metrics import SEALED
from spaces.system import System

MOST_TRIALS = 1000
"""Drawn in a chart; of more, the best."""
LINE, ROW = 15.0, 36.0
"""Pixels between two labels, and between two intervals."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture, what it is called, and the numbers behind it; `note` says how to read it."""

    title: str
    picture: Markup
    data: Data
    note: str = ""


def drawn(analysis: Analysis) -> list[TrialRecord]:
    """The trials that charts show, from the worst to the best, so that the best lie on top; the reference below the best."""
    ranking = analysis.ranking[:MOST_TRIALS]
    reference = [one for one in analysis.trials if one.recommended and one is not ranking[0]] if ranking else []
    others = [one for one in reversed(ranking[1:]) if not one.recommended]
    return [*others, *(one for one in reference if one.best(analysis.mode)), *ranking[:1]]


def kind(trial: TrialRecord, analysis: Analysis) -> str:
    """A trial's class in pictures."""
    if analysis.ranking and trial.number == analysis.ranking[0].number:
        return "best"
    return "reference" if trial.recommended else trial.state.lower()


def is_log(analysis: Analysis) -> bool:
    """Whether axes of the objective are logarithmic: where a quotient of two values means something."""
    return analysis.study.system.metrics[analysis.study.objective.metric].ratio


def label(trial: TrialRecord, analysis: Analysis) -> str:
    """What a pointer on a trial's mark is told."""
    best = trial.best(analysis.mode)
    value = "" if best is None else f", {analysis.title} {number(best[1])} at step {best[0]:,}"
    return f"#{trial.number}{' (reference)' if trial.recommended else ''}: {trial.state}{value}"


def mark(x: float, y: float, of: str, trial: int | None = None, title: str = "") -> Markup:
    """A point: the best is a diamond, the reference a square, others are circles."""
    said = [element("title", title)] if title else []
    named = {"class_": f"mark {of}", "data_trial": trial}
    if of in ("best", "reference"):
        half = 5.0
        turn = f"rotate(45 {x:.1f} {y:.1f})" if of == "best" else None
        return element("rect", *said, x=x - half, y=y - half, width=2 * half, height=2 * half, transform=turn, **named)
    return element("circle", *said, cx=x, cy=y, r=3.5, **named)


def history_chart(analysis: Analysis) -> Chart | None:
    """Objective against step, a line for each trial, the rungs as vertical lines; None before the first report."""
    trials = {trial.number: trial for trial in drawn(analysis)}
    curves = {curve.number: curve for curve in history(list(trials.values()))}
    if not curves:
        return None
    yardsticks = _yardsticks(analysis)
    values = [float(value) for curve in curves.values() for value in curve.values]
    reports = sorted({float(step) for curve in curves.values() for step in curve.steps})
    budget = analysis.record.budget()
    x = Log(reports[0] / 1.1, max(reports[-1], budget.steps) * 1.02)
    room = 24 + 6.6 * max([12, *map(len, yardsticks)])
    frame = Frame(WIDTH, 380, x, around([*values, *yardsticks.values()], is_log(analysis)), right=room, top=24)
    parts = [
        frame.axes("optimizer step (vertical lines: rungs)", analysis.title, x_ticks=False),
        _rungs(frame, [one for one in (*budget.rungs(), budget.steps) if one >= x.low]),
        *(_course(frame, curve, trials[curve.number], analysis) for curve in curves.values()),
        _named(frame, yardsticks, [(trials[curve.number], curve) for curve in curves.values()], analysis),
    ]
    rows = [
        [f"#{curve.number}", curve.state, *(_at(curve, step) for step in reports)]
        for curve in sorted(curves.values(), key=lambda one: one.number)
    ]
    title = f"{analysis.title} while {len(curves)} trials trained"
    data = Data(["trial", "state", *(f"{step:,.0f}" for step in reports)], rows)
    return Chart(title, picture(frame.width, frame.height, title, parts), data)


def _rungs(frame: Frame, steps: Sequence[int]) -> Markup:
    parts = []
    for step in steps:
        x, foot = frame.across(step), frame.height - frame.bottom
        parts.append(element("line", x1=x, x2=x, y1=frame.top, y2=foot, class_="rung"))
        parts.append(element("text", f"{step:,}", x=x, y=foot + 16, class_="tick middle"))
    return Markup("").join(parts)


def _named(
    frame: Frame, yardsticks: Mapping[str, float], curves: Sequence[tuple[TrialRecord, Curve]], analysis: Analysis
) -> Markup:
    """Lines of what needs no model, and names on the right: theirs, the reference's and the best trial's."""
    right, parts, names = frame.width - frame.right, [], []
    for name, value in yardsticks.items():
        y = frame.up(value)
        parts.append(element("line", x1=frame.left, x2=right, y1=y, y2=y, class_="yardstick"))
        names.append((y, name, "muted"))
    for trial, curve in curves:
        if (of := kind(trial, analysis)) in ("best", "reference"):
            name = f"#{trial.number} best" if of == "best" else of
            names.append((frame.up(float(curve.values[-1])), name, of))
    for y, (_, name, of) in zip(apart([y for y, *_ in names], LINE), names, strict=True):
        parts.append(element("text", name, x=right + 9, y=y + 4, class_=f"label {of}"))
    return Markup("").join(parts)


def _course(frame: Frame, curve: Curve, trial: TrialRecord, analysis: Analysis) -> Markup:
    of = kind(trial, analysis)
    points = [frame.at(float(step), float(value)) for step, value in zip(curve.steps, curve.values, strict=True)]
    end = (
        mark(*points[-1], of)
        if of in ("best", "reference")
        else element("circle", cx=points[-1][0], cy=points[-1][1], r=2)
    )
    line = element("path", d=path(points), class_="course")
    return element("g", element("title", label(trial, analysis)), line, end, class_=of, data_trial=trial.number)


def _at(curve: Curve, step: float) -> str:
    found = curve.values[curve.steps == step]
    return number(float(found[0])) if len(found) else "-"


def _yardsticks(analysis: Analysis) -> dict[str, float]:
    """What does without a model, the hardest to beat: its mean at the test set."""
    if analysis.summary is None:
        return {}
    system, final = analysis.study.system, analysis.summary.final
    judged = [one for one in system.baselines if one.name in final.baselines]
    return {f"{one.title} (test)": final.baselines[one.name].score.mean for one in judged[-1:]}


def intervals_chart(final: Final, system: System) -> Chart:
    """Every finalist and what does without a model at the test set: means with 95 % intervals."""
    metric = system.metrics[SEALED + final.metric]
    rows = [
        (
            finalist_name(one),
            one.score,
            one.behind,
            "best" if one.number == final.winner else "reference" if one.recommended else "complete",
        )
        for one in final.finalists
    ]
    titles = methods(system)
    rows += [
        (titles[name], final.baselines[name].score, final.baselines[name].behind, "baseline")
        for name in titles
        if name in final.baselines
    ]
    title = f"{metric.short} at the test set, with 95 % intervals"
    score_places, behind_places = places(final)
    data = Data(
        ["", f"{metric.short} [95 %]", "minus the winner's [95 %]"],
        [
            [name, interval(score, score_places), "-" if behind is None else interval(behind, behind_places, "+")]
            for name, score, behind, _ in rows
        ],
    )
    note = "Bars: 95 % intervals over training seeds and test items. The vertical line is the winner's mean."
    winner = next(score for _, score, _, of in rows if of == "best")
    named = [(name, score, of) for name, score, _, of in rows]
    return Chart(
        title, forest(named, title, f"{metric.short} ({better(metric.mode)})", metric.ratio, winner.mean), data, note
    )


def better(mode: str | None) -> str:
    return "less is better" if mode == "min" else "more is better"


def forest(
    rows: Sequence[tuple[str, Interval, str]], title: str, axis: str, log: bool, line: float | None = None
) -> Markup:
    """A row for each interval: its name, and below it its bar and mean; `line` is a value that all are compared with.

    It is as wide as its place: across, all is in percent, so that it can be read on a phone.

    Args:
        rows: name, interval, and class.
    """
    scale = around([value for _, score, _ in rows for value in (score.low, score.mean, score.high)], log)
    foot = ROW * len(rows) + 8

    def across(value: float) -> str:
        return f"{4 + 92 * scale.place(value):.2f}%"

    parts = []
    for place, text in scale.ticks():
        x = f"{4 + 92 * place:.2f}%"
        parts.append(element("line", x1=x, x2=x, y1=0, y2=foot, class_="grid"))
        parts.append(element("text", text, x=x, y=foot + 16, class_="tick middle"))
    parts.append(element("text", axis, x="50%", y=foot + 36, class_="name middle"))
    if line is not None:
        parts.append(element("line", x1=across(line), x2=across(line), y1=0, y2=foot, class_="yardstick"))
    digits = decimals(score for _, score, _ in rows)
    for index, (name, score, of) in enumerate(rows):
        y = ROW * index + 25
        bar = element("line", x1=across(score.low), x2=across(score.high), y1=y, y2=y, class_="bar")
        point = element("svg", mark(0.0, 0.0, of), x=across(score.mean), y=y, overflow="visible")
        said = element("title", f"{name}: {interval(score, digits)}")
        named = element("text", name, x=0, y=y - 10, class_=f"label halo {of}")
        row = element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid")
        parts.append(element("g", said, row, bar, point, named, class_=of))
    return element("svg", *parts, width="100%", height=foot + 42, role="img", aria_label=title)


def slices(analysis: Analysis) -> list[Chart]:
    """Best objective of each trial against each hyperparameter that at least one trial has."""
    trials, found = drawn(analysis), []
    reached = {one.number: best[1] for one in trials if (best := one.best(analysis.mode)) is not None}
    for name, parameter in analysis.study.search.items():
        having = [one for one in trials if name in one.params and one.number in reached]
        if not having:
            continue
        x = of_parameter(parameter, analysis.study.is_integer(name), (one.params[name] for one in having))
        frame = Frame.small(x, around(list(reached.values()), is_log(analysis)))
        points = []
        for trial in having:
            at = frame.at(trial.params[name], reached[trial.number])
            points.append(mark(*at, kind(trial, analysis), trial.number, label(trial, analysis)))
        title = f"{analysis.title} against {name}"
        rows = [
            [f"#{one.number}", number(one.params[name]), number(reached[one.number]), one.state]
            for one in sorted(having, key=lambda one: one.number)
        ]
        parts = [frame.axes(name, most=SMALL_TICKS), *points]
        data = Data(["trial", name, analysis.title, "state"], rows)
        found.append(Chart(title, picture(frame.width, frame.height, title, parts), data))
    return found


def effects_chart(analysis: Analysis) -> Chart | None:
    """What each hyperparameter is worth, with intervals; None where it is not known."""
    found = analysis.sensitivity
    if not found.effects:
        return None
    title = f"{'How many times' if found.ratio else 'How much'} larger {analysis.title} is at the worst value than at the best"
    digits = min(2, decimals([one.effect for one in found.effects]))
    untold = "not told" if found.ratio else "-"  # levels are of factors
    data = Data(
        ["", "effect [95 %]", "share", "effect", "document's label"],
        [
            [one.name, interval(one.effect, digits), f"{one.share:.2f}", one.level or untold, one.label or "-"]
            for one in found.effects
        ],
    )
    rows = [(one.name, one.effect, "complete") for one in found.effects]
    axis = "worst / best" if found.ratio else "worst - best"
    return Chart(title, forest(rows, title, axis, found.ratio, 1.0 if found.ratio else 0.0), data)


def responses(analysis: Analysis) -> list[Chart]:
    """The objective along each hyperparameter, on average over the others, with its 95 % interval, and about the best trial."""
    found, charts = analysis.sensitivity, []
    best = analysis.ranking[0].params if analysis.ranking else {}
    ends = [end for one in found.effects for point in one.response for end in (point.low, point.high)]
    ends += [point.mean for one in found.effects for point in one.local]
    for one in found.effects:
        parameter = analysis.study.search[one.name]
        marked = {"reference": parameter.recommended} | ({"best": best[one.name]} if one.name in best else {})
        # The best trial may be from outside a range that was edited when the run was resumed.
        x = of_parameter(parameter, analysis.study.is_integer(one.name), [*one.values, *marked.values()])
        frame = Frame.small(x, around(ends, found.ratio))
        title = f"{analysis.title} along {one.name}, at step {found.step:,}"
        parts = [frame.axes(one.name, most=SMALL_TICKS), _response(frame, one.values, one.response)]
        parts.append(_local(frame, one.values, one.local))
        for of, value in marked.items():
            at = frame.across(value)
            tick = element("line", x1=at, x2=at, y1=frame.top, y2=frame.height - frame.bottom, class_=f"value {of}")
            parts.append(tick)
        digits = decimals([*one.response, *one.local])
        rows = [
            [number(value), interval(point, digits), interval(local, digits)]
            for value, point, local in zip(one.values, one.response, one.local, strict=True)
        ]
        data = Data([one.name, f"{analysis.title} [95 %]", "others as in the best trial [95 %]"], rows)
        charts.append(Chart(title, picture(frame.width, frame.height, title, parts), data))
    return charts


def _response(frame: Frame, values: Sequence[bool | int | float | str], response: Sequence[Interval]) -> Markup:
    if isinstance(frame.x, Choices):
        parts = []
        for value, point in zip(values, response, strict=True):
            x = frame.across(value)
            parts.append(element("line", x1=x, x2=x, y1=frame.up(point.low), y2=frame.up(point.high), class_="bar"))
            parts.append(mark(x, frame.up(point.mean), "complete"))
        return element("g", *parts, class_="complete")
    pairs = list(zip(values, response, strict=True))
    above = [frame.at(value, point.high) for value, point in pairs]
    below = [frame.at(value, point.low) for value, point in reversed(pairs)]
    band = element("path", d=path([*above, *below]) + "Z", class_="band")
    line = element("path", d=path([frame.at(value, point.mean) for value, point in pairs]), class_="course")
    return element("g", band, line, class_="complete")


def _local(frame: Frame, values: Sequence[bool | int | float | str], local: Sequence[Interval]) -> Markup:
    places = [frame.at(value, point.mean) for value, point in zip(values, local, strict=True)]
    if isinstance(frame.x, Choices):
        return element("g", *(mark(x, y, "best") for x, y in places))
    return element("path", d=path(places), class_="local")


def lanes_chart(analysis: Analysis) -> Chart | None:
    """Which trial each lane trained when; None before a trial has started."""
    spans = _spans(analysis.trials)
    if not spans:
        return None
    lanes = tuple(sorted({trial.lane or "-" for trial, *_ in spans}))
    begin = min(began for _, began, _ in spans)
    minutes = {
        trial.number: ((began - begin).total_seconds() / 60, (ended - begin).total_seconds() / 60)
        for trial, began, ended in spans
    }
    last = max(end for _, end in minutes.values()) or 1.0
    frame = Frame(WIDTH, 66 + 34 * len(lanes), Linear(0, last), Choices(lanes[::-1]), left=80, right=24)
    parts = [frame.axes("minutes since the first trial began")]
    parts += [_span(frame, trial, minutes[trial.number], analysis) for trial, *_ in spans[:MOST_TRIALS]]
    title = "Which trial each lane trained, and when"
    rows = [
        [
            f"#{trial.number}",
            trial.lane or "-",
            trial.state,
            f"{minutes[trial.number][0]:.2f}",
            f"{minutes[trial.number][1]:.2f}",
            duration(trial.seconds),
        ]
        for trial, *_ in spans
    ]
    data = Data(["trial", "lane", "state", "from (min)", "to (min)", "lane time"], rows)
    return Chart(title, picture(frame.width, frame.height, title, parts), data)


def _span(frame: Frame, trial: TrialRecord, minutes: tuple[float, float], analysis: Analysis) -> Markup:
    """One trial in its lane, with its number where there is room."""
    start, end = map(frame.across, minutes)
    y, wide = frame.up(trial.lane or "-"), max(1.0, end - start - 1)
    parts = [
        element("title", f"{label(trial, analysis)}, {duration(trial.seconds)}"),
        element("rect", x=start, y=y - 11, width=wide, height=22.0, rx=2),
    ]
    if wide > 9 * len(str(trial.number)) + 4:
        parts.append(element("text", str(trial.number), x=start + wide / 2, y=y + 4, class_="tick middle"))
    return element("g", *parts, class_=f"span {kind(trial, analysis)}", data_trial=trial.number)


def _spans(trials: Sequence[TrialRecord]) -> list[tuple[TrialRecord, datetime, datetime]]:
    """When each trial began and ended, or was last heard of."""
    return [
        (one, one.started, one.ended or one.started + timedelta(seconds=one.seconds))
        for one in trials
        if one.started is not None
    ]
