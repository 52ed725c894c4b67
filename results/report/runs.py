"""The page of several runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from results.analysis import Analysis
from results.comparison import Interval, listed
from results.final_tables import comparison_table, finalist_name, places
from results.formatting import duration, interval, number
from results.report.charts import Chart, better, forest, is_log
from results.report.page import rendered, verdict
from results.report.scales import Linear, around
from results.report.svg import WIDTH, Frame, apart, element, path, picture
from results.report.tables import Data, html
from results.several import DIFFERENT_SETS, Several
from spaces.metrics import SEALED, Metric, best

DASHES = ("", "7 4", "2 3", "9 3 2 3")
"""Of lines of runs, which have one colour."""


def runs_page(several: Several) -> str:
    """The HTML of several runs, finished or not."""
    runs = several.runs
    metric = _shared([*runs.values()])
    parts: dict[str, Any] = {
        "title": listed([*runs]),
        "overview": _overview(runs),
        "remarks": []
        if metric
        else ["The runs have different objectives, so their values are not drawn in one picture."],
        "intervals": _intervals(several, metric) if metric is not None else None,
        "progress": _progress(runs) if metric is not None else None,
        "parameters": _parameters(runs),
        "runs": [
            {
                "name": name,
                "about": f"{one.record.space}, preset {one.record.preset}, seed {one.record.seed}",
                "verdict": verdict(one),
                "comparison": ""
                if one.summary is None
                else html(comparison_table(one.summary.test, one.summary.final, one.study.system)),
            }
            for name, one in runs.items()
        ],
    }
    found = {
        "overview": "Overview",
        "comparison": "Winners",
        "progress": "What it took",
        "parameters": "Hyperparameters",
    }
    there = [name for name in found if parts.get({"comparison": "intervals"}.get(name, name))]
    parts["sections"] = [*((name, found[name]) for name in there), ("runs", "Run by run")]
    return rendered("runs.html", parts)


def _shared(analyses: Sequence[Analysis]) -> Metric | None:
    """The metric of all runs; None if they have several."""
    first = analyses[0].study
    if any((one.study.model, one.study.objective) != (first.model, first.objective) for one in analyses):
        return None
    return first.system.metrics[first.objective.metric]


def _overview(runs: Mapping[str, Analysis]) -> str:
    rows = []
    for name, one in runs.items():
        summary = one.summary
        found = {"result": "not finished", "reference": "-", "time": "-"}
        if summary is not None:
            final = summary.final
            digits, _ = places(final)
            title = one.study.system.metrics[SEALED + final.metric].short
            found["result"] = f"{title} {interval(final.best.score, digits)}"
            reference = final.reference
            found["reference"] = "-" if reference is None else interval(reference.score, digits)
            found["time"] = duration(summary.seconds)
        first = one.ranking[0] if one.ranking else None
        rows.append(
            [
                name,
                one.record.space,
                one.record.preset,
                str(len(one.trials)),
                f"{sum(cost.steps for cost in one.spent.values()):,}",
                "-" if first is None else f"#{first.number}",
                *found.values(),
            ]
        )
    headings = [
        "run",
        "space",
        "preset",
        "trials",
        "steps",
        "best",
        "winner at the test set [95 %]",
        "reference",
        "time",
    ]
    return Data(headings, rows).html("Runs")


def _intervals(several: Several, metric: Metric) -> Chart | None:
    """Winners and references at the test set."""
    rows: list[tuple[str, Interval, str]] = []
    cells = []
    for label, one in several.runs.items():
        if one.summary is None:
            continue
        final = one.summary.final
        digits, _ = places(final)
        for finalist in final.finalists:
            winner = finalist.number == final.winner
            if winner or finalist.recommended:
                name = f"{label}: {'winner, ' if winner else ''}{finalist_name(finalist)}"
                rows.append((name, finalist.score, "best" if winner else "reference"))
                cells.append([name, interval(finalist.score, digits)])
    if not rows:
        return None
    title = f"{metric.short} at the test set, with 95 % intervals"
    note = "" if several.same_test_set else DIFFERENT_SETS
    data = Data(["", f"{metric.short} [95 %]"], cells)
    return Chart(title, forest(rows, title, f"{metric.short} ({better(metric.mode)})", metric.ratio), data, note)


def _progress(runs: Mapping[str, Analysis]) -> Chart | None:
    """The best value so far against optimizer steps, trial after trial in the order in which they ended."""
    courses = {name: course for name, one in runs.items() if (course := _best_so_far(one))}
    if not courses:
        return None
    first = next(iter(runs.values()))
    values = [value for course in courses.values() for _, value in course]
    most = max(steps for course in courses.values() for steps, _ in course)
    room = 24 + 6.6 * max(map(len, courses))
    y = around(values, is_log(first))
    frame = Frame(WIDTH, 340, Linear(0, most), y, right=room, top=24)
    title = f"Best {first.title} so far"
    parts = [frame.axes("optimizer steps of the trials that have ended", first.title)]
    ends = [frame.at(*course[-1]) for course in courses.values()]
    heights = apart([height for _, height in ends], 15.0)
    for index, (name, course) in enumerate(courses.items()):
        steps = [frame.at(*course[0])]
        for before, after in pairwise(course):
            steps += [frame.at(after[0], before[1]), frame.at(*after)]
        line = element("path", d=path(steps), class_="course", stroke_dasharray=DASHES[index % len(DASHES)] or None)
        parts.append(element("g", element("title", name), line, class_="complete"))
        parts.append(element("text", name, x=ends[index][0] + 8, y=heights[index] + 4, class_="label"))
    rows = [[name, f"{steps:,.0f}", number(value)] for name, course in courses.items() for steps, value in course]
    data = Data(["run", "steps", f"best {first.title}"], rows)
    return Chart(title, picture(frame.width, frame.height, title, parts), data)


def _best_so_far(analysis: Analysis) -> list[tuple[float, float]]:
    """Of the trials that are ranked and keep to the constraints; the steps are of all that have ended."""
    able = {one.number for one in analysis.ranking if one.violation == 0}
    ended = [one for one in analysis.trials if one.ended is not None]
    course: list[tuple[float, float]] = []
    steps = 0
    for trial in sorted(ended, key=lambda one: (one.ended, one.number)):
        steps += trial.step
        reached = trial.best(analysis.mode)
        if trial.number in able and reached is not None:
            course.append((float(steps), best(analysis.mode, [reached[1], *(before for _, before in course[-1:])])))
    return course


def _parameters(runs: Mapping[str, Analysis]) -> str:
    """Of each run's best trial."""
    names = list(dict.fromkeys(name for one in runs.values() for name in one.study.search))
    found = [one.ranking[0].params if one.ranking else {} for one in runs.values()]
    rows = [[name, *(number(params[name]) if name in params else "-" for params in found)] for name in names]
    return Data(["", *runs], rows).html("Best trial of each run")
