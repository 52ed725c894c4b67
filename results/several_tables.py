"""Several runs side by side, for people and for machines: what differs, their winners, their costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.analysis import Analysis
from results.comparison import Interval
from results.final_tables import costs_of, finalist_name, methods
from results.formatting import decimals, duration, interval, new_table, number
from results.narrow_table import ContinuedTable
from results.several import ABSENT, DIFFERENT_SETS, Several
from results.summary import Summary
from results.tables import analysis_as_dict
from spaces.metrics import SEALED


def several_tables(several: Several) -> RenderableType:
    """What `tune analyze RUN RUN...` prints."""
    parts: list[RenderableType] = [course_table(several), difference_table(several), *judged_tables(several)]
    parts += [part for part in (price_table(several), winner_table(several)) if part is not None]
    return Group(*(part for one in parts for part in (one, Text())))


def course_table(several: Several) -> Table:
    """How far each run is, what it has spent, and the best value of its objective on its validation set."""
    titles = {one.title for one in several.runs.values()}
    best = f"best {titles.pop()}" if len(titles) == 1 else "best"
    table = new_table("Runs", "run", best, "by", "trials", "steps", "lane time", "state")
    table.columns[0].no_wrap, table.columns[5].no_wrap = False, True
    for label, one in several.runs.items():
        first = one.ranking[0] if one.ranking else None
        reached = first.best(one.mode) if first is not None else None
        table.add_row(
            label,
            number(reached[1]) if reached is not None else "-",
            f"#{first.number}" if first is not None else "-",
            str(len(one.trials)),
            f"{sum(cost.steps for cost in one.spent.values()):,}",
            duration(sum(cost.lane_seconds for cost in one.spent.values())),
            "finished" if one.summary is not None else "not finished",
        )
    table.caption = (
        "best: the winner's in the search, of a run that is not finished the best so far; on validation data."
    )
    return table


def difference_table(several: Several) -> RenderableType:
    """The settings that are not the same in all runs; `-` where a run has no such key."""
    if not several.differences:
        return Text("What differs: nothing; the runs have the same space, budget, seed, data and versions.")
    table = _beside("What differs", several.runs)
    for key, values in several.differences.items():
        table.add_row(key, *map(_value, values))
    return table


def judged_tables(several: Several) -> list[RenderableType]:
    """Of each metric of the finals: the winners, the references and the baselines of the runs that were judged by it."""
    groups: dict[str, dict[str, tuple[Analysis, Summary]]] = {}
    for label, one in several.runs.items():
        if one.summary is not None:
            title = one.study.system.metrics[SEALED + one.summary.final.metric].short
            groups.setdefault(title, {})[label] = (one, one.summary)
    return [_judged(title, runs, several.same_test_set) for title, runs in groups.items()]


def _judged(title: str, runs: Mapping[str, tuple[Analysis, Summary]], same_test_set: bool) -> RenderableType:
    scores = {label: _scores(one, summary) for label, (one, summary) in runs.items()}
    rows = dict.fromkeys(method for of_run in scores.values() for method in of_run)
    places = decimals(score for of_run in scores.values() for score in of_run.values())
    table = _beside(f"{title} at the test set [95 %]", runs)
    for column in table.columns:
        column.no_wrap = True
    for method in rows:
        cells = [of_run.get(method) for of_run in scores.values()]
        table.add_row(method, *("-" if one is None else interval(one, places) for one in cells))
    if len(runs) > 1:
        table.caption = (
            "[95 %]: for other training seeds and test items. Winners whose intervals do not overlap differ; of others these do not tell."
            if same_test_set
            else DIFFERENT_SETS
        )
    return table


def _scores(one: Analysis, summary: Summary) -> dict[str, Interval]:
    """By title: the winner, the reference, and the baselines in their order."""
    final = summary.final
    found = {"winner": final.best.score}
    if final.reference is not None:
        found["reference"] = final.reference.score
    titles = methods(one.study.system)
    return found | {title: final.baselines[name].score for name, title in titles.items() if name in final.baselines}


def price_table(several: Several) -> Table | None:
    """What each run's winner costs, and what the whole search took; None if no run has ended."""
    ended = {label: (one, one.summary) for label, one in several.runs.items() if one.summary is not None}
    if not ended:
        return None
    items = {one.study.system.item for one, _ in ended.values()}
    per = items.pop() if len(items) == 1 else "item"
    table = new_table("What the winners cost", "run", "winner", "MB", f"us/{per}", "data", "training", "the search")
    for column in table.columns:
        column.no_wrap = column is not table.columns[0]
    for label, (_, summary) in ended.items():
        winner = summary.final.best
        table.add_row(label, finalist_name(winner), *costs_of(winner), duration(summary.seconds))
    table.caption = f"MB: what must be kept. us/{per}: on one CPU thread. data: CPU time; training, the search: wall-clock time. ?: not known."
    return table


def winner_table(several: Several) -> RenderableType | None:
    """Hyperparameters of the winners, or of the best trials so far, as far as they differ; None if no trial has reported."""
    found = {label: one.ranking[0].params for label, one in several.runs.items() if one.ranking}
    if not found:
        return None
    table = _beside("Winners" if all(one.summary for one in several.runs.values()) else "Best trials so far", found)
    alike = []
    for name in dict.fromkeys(name for params in found.values() for name in params):
        values = [params.get(name, ABSENT) for params in found.values()]
        if len(values) > 1 and all(value == values[0] for value in values):
            alike.append(f"{name} {_value(values[0])}")
        else:
            table.add_row(name, *map(_value, values))
    if not table.row_count:
        return Text(f"Winners: the same hyperparameters in all: {', '.join(alike)}.")
    if alike:
        table.caption = f"The same in all: {', '.join(alike)}."
    return table


def several_as_dict(several: Several) -> dict[str, Any]:
    """What `tune analyze RUN RUN... --json` prints: the differences and, by label, each run's own analysis. An absent value is None."""
    return {
        "differences": {
            key: {label: None if value is ABSENT else value for label, value in zip(several.runs, values, strict=True)}
            for key, values in several.differences.items()
        },
        "same_test_set": several.same_test_set,
        "runs": {label: analysis_as_dict(one) for label, one in several.runs.items()},
    }


def _beside(title: str, labels: Mapping[str, object]) -> Table:
    """An empty table with a column per run, which go on below where there is no room."""
    return new_table(title, "", *labels, kind=ContinuedTable)


def _value(value: Any) -> str:
    """A setting in a cell: `-` where there is none, a parameter's range as `1e-5 to 0.01`."""
    if value is ABSENT:
        return "-"
    if isinstance(value, Mapping):
        if {"low", "high"} <= value.keys():
            return f"{number(value['low'])} to {number(value['high'])}"
        if value.get("choices"):
            return _value(value["choices"])
        return ", ".join(f"{key} {_value(one)}" for key, one in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_value, value)) or "none"
    return number(value)
