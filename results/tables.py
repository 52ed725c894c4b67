"""Tables of a run for people. Functions return rich renderables that fit 80 columns; printing is the caller's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.analysis import Analysis, Spent, analyze
from results.final_tables import comparison_table, cost_table, final_sentences, final_table
from results.formatting import decimals, duration, interval, new_table, number
from results.records import State, TrialRecord
from results.run_directory import RunDirectory
from results.sensitivity import LEVELS, Sensitivity
from spaces.metrics import Mode

SHOWN_TRIALS = 4
SHOWN_STOPS = 10
SHOWN_FRONT = 12


def analysis(run: RunDirectory) -> RenderableType:
    """What `tune analyze RUN` prints.

    Raises:
        RunError: the run's files are missing or damaged.
    """
    return analysis_tables(analyze(run))


def analysis_tables(analysis: Analysis) -> RenderableType:
    """All tables of an analysis, one below the other."""
    parts: list[RenderableType] = [heading(analysis), state_table(analysis)]
    parts += [part for part in (survival_table(analysis), stop_table(analysis)) if part is not None]
    parts.append(front_tables(analysis) if analysis.study.further_objectives else best_table(analysis))
    if analysis.summary is not None:
        final = analysis.summary.final
        system = analysis.study.system
        parts += [
            comparison_table(analysis.summary.test, final, system),
            final_table(final, system),
            cost_table(final, system),
        ]
        parts.append(Text("\n".join(final_sentences(final, analysis.standings, system))))
    parts.append(sensitivity_table(analysis.sensitivity, analysis))
    if said := notes(analysis):
        parts.append(said)
    return Group(*(part for one in parts for part in (one, Text())))


def heading(analysis: Analysis) -> Text:
    """What was searched and how, what ended it, and what was changed on the way."""
    record, study = analysis.record, analysis.study
    text = Text()
    text.append(record.name, style="bold")
    text.append(
        f"  {record.space}, preset {record.preset}, seed {record.seed}, {study.system.what} {record.source.name}, "
    )
    text.append(f"sampler {study.sampler}, scheduler {study.scheduler}")
    lines = [
        f"{'and' if index else 'objective'}: {one.metric} ({one.mode}), {study.system.metrics[one.metric].meaning}"
        for index, one in enumerate(study.objectives)
    ]
    if study.constraints:
        limits = (
            f"{one.metric} {f'>= {number(one.low)}' if one.low is not None else f'<= {number(one.high)}'}"
            for one in study.constraints
        )
        lines.append(f"constraints: {', '.join(limits)}")
    ended = f"finished ({analysis.summary.ended})" if analysis.summary else "not finished: these are the results so far"
    lines.append(ended)
    if record.changes:
        lines.append(f"changed at resume: {', '.join(record.changes)}")
    return text.append("\n" + "\n".join(lines))


def state_table(analysis: Analysis) -> RenderableType:
    """Trials, steps and lane time by state, how busy the lanes were, and why trials failed."""
    busy = busy_line(analysis)
    lines = [*([busy] if busy is not None else []), *state_lines(analysis)]
    return Group(state_counts(analysis), Text("\n".join(lines))) if lines else state_counts(analysis)


def state_counts(analysis: Analysis) -> Table:
    """Trials, steps and lane time by state."""
    return spent_table(analysis.spent, len(analysis.trials))


def busy_line(analysis: Analysis) -> str | None:
    """How busy the lanes were; None before a lane has trained."""
    if (busy := analysis.efficiency) is None:
        return None
    lanes = "The lane" if busy.lanes == 1 else f"The {busy.lanes} lanes"
    if busy.places > busy.lanes:
        lanes = f"The {busy.places} places of {busy.lanes} lane{'s' * (busy.lanes > 1)}"
    return f"{lanes} trained for {busy.share:.0%} of the {duration(busy.seconds)} in which trials ran."


def state_lines(analysis: Analysis) -> list[str]:
    """Which trials were interrupted, and why trials failed."""
    interrupted = [trial.number for trial in analysis.trials if trial.state == "WAITING" and trial.started is not None]
    waiting = f"WAITING: {_numbers(interrupted)} interrupted, going on when the run is resumed."
    failed = [f"FAIL: {len(one.trials)} x {one.reason} ({_numbers(one.trials)})." for one in analysis.failures]
    return [*([waiting] if interrupted else []), *failed]


def spent_table(spent: Mapping[State, Spent], trials: int, steps: str = "steps", time: str = "lane time") -> Table:
    """Trials, steps and time by state, and of all."""
    table = new_table("Trials", "state", "trials", steps, time, "share")
    total = sum(cost.lane_seconds for cost in spent.values())
    for state, cost in spent.items():
        share = f"{cost.lane_seconds / total:.0%}" if total else "-"
        table.add_row(state, str(cost.trials), f"{cost.steps:,}", duration(cost.lane_seconds), share)
    table.add_section()
    made = sum(cost.steps for cost in spent.values())
    table.add_row("all", str(trials), f"{made:,}", duration(total), "100%" if total else "-")
    return table


def survival_table(analysis: Analysis) -> RenderableType | None:
    """How many trials came to each rung and went on, and what they had reached there; None before the first rung."""
    scheduler = analysis.study.scheduler
    if scheduler == "none":
        return Text("Early stopping: none (scheduler none), every trial has the full budget.")
    if not any(row.came for row in analysis.survival):
        return None
    budget = analysis.record.budget()
    kind = f"asha, one in {budget.reduction_factor} goes on" if scheduler == "asha" else scheduler
    table = new_table(
        f"Survival ({kind})",
        "rung" if scheduler == "asha" else "step",
        "came",
        "went on",
        "PRUNED",
        f"best {analysis.title}",
        "median",
    )
    table.columns[0].justify = "right"
    for row in analysis.survival:
        last = row.step == budget.steps
        table.add_row(
            f"{row.step:,}",
            str(row.came),
            "end" if last else str(row.went_on),
            "-" if last else str(row.stopped),
            number(row.best) if row.best is not None else "-",
            number(row.median) if row.median is not None else "-",
        )
    table.caption = "PRUNED: here or later, before the next row."
    return table


def stop_table(analysis: Analysis, most: int = SHOWN_STOPS) -> Table | None:
    """Why trials were stopped, at most so many, the latest last; None if none was."""
    if not analysis.stops:
        return None
    shown = analysis.stops[-most:]
    table = new_table("Why trials were stopped", "trial", "at step", "reason")
    table.columns[2].justify = "left"
    for one in shown:
        table.add_row(f"#{one.number}", f"{one.step:,}", one.reason)
    if earlier := len(analysis.stops) - len(shown):
        table.caption = f"The latest {len(shown)}; {earlier} more with --json."
    return table


def best_table(analysis: Analysis) -> RenderableType:
    """The best trials side by side, the reference first: one column per trial reads well with many rows."""
    if not analysis.ranking:
        return Text("no trial has reported yet")
    best = analysis.ranking[:SHOWN_TRIALS]
    columns = _with_reference(best, analysis)
    table = _side_by_side("Best trials", columns, best[0])
    points = [trial.best(analysis.mode) for trial in columns]
    table.add_row(analysis.title, *(number(point[1]) if point else "-" for point in points))
    table.add_row("at step", *(str(point[0]) if point else "-" for point in points))
    table.add_row("state", *(trial.state for trial in columns))
    if analysis.study.constraints:
        table.add_row("violation", *map(_violation, columns))
    table.add_row("lane time", *(duration(trial.seconds) for trial in columns))
    table.add_section()
    _add_parameters(table, columns, analysis)
    if analysis.summary is not None:
        table.caption = "Bold: the winner; with its value in the search, where others may have done better."
    return table


def front_tables(analysis: Analysis) -> RenderableType:
    """Of several objectives: the Pareto front, and the parameters of some trials along it."""
    if not analysis.front:
        return Text("Pareto front: no trial is COMPLETE and within the constraints yet")
    shown = _along(analysis.front, SHOWN_FRONT)
    titles = (analysis.study.system.metrics[one.metric].short for one in analysis.study.objectives)
    table = new_table("Pareto front", "trial", *titles, "lane time")
    winner = analysis.summary.best.number if analysis.summary is not None else None
    for trial in shown:
        assert trial.values is not None
        table.add_row(
            _name(trial),
            *map(number, trial.values),
            duration(trial.seconds),
            style="bold" if trial.number == winner else None,
        )
    if more := len(analysis.front) - len(shown):
        table.caption = f"{more} more with --json."
    columns = _with_reference(_along(analysis.front, SHOWN_TRIALS), analysis)
    parameters = _side_by_side("Parameters along the front", columns, analysis.ranking[0])
    _add_parameters(parameters, columns, analysis)
    return Group(table, Text(), parameters)


def _with_reference(trials: Sequence[TrialRecord], analysis: Analysis) -> list[TrialRecord]:
    """The reference first, if it is not among the trials."""
    reference = analysis.reference
    return [*([reference] if reference is not None and reference not in trials else []), *trials]


def _along[Item](items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items at even distances, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def _side_by_side(title: str, columns: Sequence[TrialRecord], best: TrialRecord) -> Table:
    table = new_table(title, "")
    for trial in columns:
        table.add_column(_name(trial), justify="right", style="bold" if trial is best else None, no_wrap=True)
    return table


def _add_parameters(table: Table, columns: Sequence[TrialRecord], analysis: Analysis) -> None:
    for name in analysis.study.search:
        table.add_row(name, *(number(trial.params[name]) if name in trial.params else "-" for trial in columns))


def _name(trial: TrialRecord) -> str:
    return "reference" if trial.recommended else f"#{trial.number}"


def _violation(trial: TrialRecord) -> str:
    """How far a trial is outside the constraints, which is known once it has ended."""
    return "-" if trial.state in ("RUNNING", "WAITING") else number(trial.violation) if trial.violation else "none"


def _numbers(trials: Sequence[int], most: int = 5) -> str:
    listed = ", ".join(f"#{number}" for number in trials[:most])
    return listed if len(trials) <= most else f"{listed} and {len(trials) - most} more"


def sensitivity_table(found: Sensitivity, analysis: Analysis) -> RenderableType:
    """How much it matters to choose each parameter well, beside the source document's label, its value there and the best one."""
    if found.reason:
        return Text(f"Sensitivity: {found.reason}.")
    what = "worst / best" if found.ratio else "worst to best"
    others = analysis.second_opinions
    table = new_table(
        "Sensitivity", "", what, "share", *others, "effect", "document's label", "reference value", "best value"
    )
    for column in table.columns[3 + len(others) : 5 + len(others)]:
        column.justify = "left"
    best = analysis.ranking[0].params if analysis.ranking else {}
    places = min(2, decimals([one.effect for one in found.effects]))
    for one in found.effects:
        table.add_row(
            one.name,
            interval(one.effect, places),
            f"{one.share:.2f}",
            *(f"{shares[one.name]:.2f}" if one.name in shares else "-" for shares in others.values()),
            one.level or ("not told" if found.ratio else "-"),
            one.label or "-",
            number(analysis.study.search[one.name].recommended),
            number(best[one.name]) if one.name in best else "-",
        )
    unit = "times as large" if found.ratio else "larger"
    table.caption = (
        f"Within these ranges, at step {found.step} of {analysis.record.budget().steps}, on average over the others: {analysis.title} is so "
        f"many {unit} at the worst value as at the best [95 %]. {LEVELS[0][0]:g} times and more are High, {LEVELS[1][0]:g} Medium, by the whole interval. "
        f"share: total Sobol index. By a Gaussian process of {found.trials} trials' reports."
        + f" {' and '.join(others)}: shares by other methods, of the trials that came so far."
        * bool(others)
    )
    return table


def notes(analysis: Analysis) -> Text | None:
    """The gain over the reference so far, and parameters whose best value lies at the end of a range."""
    gain = gain_line(analysis) if analysis.summary is None else None  # with a summary, the comparison says it
    lines = [*([gain] if gain is not None else []), *edge_lines(analysis)]
    return Text("\n".join(lines)) if lines else None


def gain_line(analysis: Analysis) -> str | None:
    """The best beside the reference; None before both have reported."""
    if (gain := analysis.gain) is None:
        return None
    factor = f": {gain.factor:.1f} times less" if gain.factor is not None and gain.factor >= 1 else ""
    return f"{gain.metric}: best {number(gain.best)}, reference {number(gain.reference)}{factor} ({gain.where})."


def edge_lines(analysis: Analysis) -> list[str]:
    """Parameters whose best value lies at the end of a range."""
    lines = []
    low = {one.name for one in analysis.sensitivity.effects if one.level == "Low"}
    for matters, remark in ((True, ""), (False, " (of little effect)")):
        at_end = [edge for edge in analysis.edges if (edge.name not in low) is matters]
        if at_end:
            listed = ", ".join(
                f"{edge.name} {number(edge.value)} ({edge.end} end {number(edge.bound)})" for edge in at_end
            )
            lines.append(f"Best value at an end of its range, so better ones may lie outside: {listed}{remark}.")
    if analysis.edges:
        lines.append(f"To look outside: {analysis.edges[0].advice}.")
    return lines


def analysis_as_dict(analysis: Analysis) -> dict[str, Any]:
    """What `tune analyze RUN --json` prints: plain JSON values, an absent or non-finite number is None."""
    mode, study, summary = analysis.mode, analysis.study, analysis.summary
    return {
        "run": analysis.record.name,
        "space": analysis.record.space,
        "preset": analysis.record.preset,
        "sampler": study.sampler,
        "scheduler": study.scheduler,
        "objective": study.objective.model_dump(),
        "further_objectives": [one.model_dump() for one in study.further_objectives],
        "constraints": [one.model_dump() for one in study.constraints],
        "finished": summary is not None,
        "ended": summary.ended if summary else None,
        "changes": list(analysis.record.changes),
        "states": {state: asdict(cost) for state, cost in analysis.spent.items()},
        "failures": [asdict(one) for one in analysis.failures],
        "efficiency": asdict(analysis.efficiency) if analysis.efficiency else None,
        "survival": [asdict(one) for one in analysis.survival],
        "stops": [asdict(one) for one in analysis.stops],
        "trials": [_trial_as_dict(trial, mode) for trial in analysis.trials],
        "ranking": [trial.number for trial in analysis.ranking],
        "front": [trial.number for trial in analysis.front] if study.further_objectives else None,
        "sensitivity": _sensitivity_as_dict(analysis.sensitivity) | {"second_opinions": analysis.second_opinions},
        "edges": [asdict(edge) for edge in analysis.edges],
        "gain": asdict(analysis.gain) if analysis.gain else None,
        "test": summary.test if summary else None,
        "final": summary.final.model_dump(mode="json") if summary else None,
        "winner": summary.best.model_dump(mode="json") if summary else None,
        "standings": [
            {"method": one.method, "ahead": one.ahead.model_dump(), "better": one.better} for one in analysis.standings
        ],
    }


def _sensitivity_as_dict(found: Sensitivity) -> dict[str, Any]:
    curves = ("response", "local")
    effects = [
        asdict(one)
        | {"effect": one.effect.model_dump()}
        | {curve: [point.model_dump() for point in getattr(one, curve)] for curve in curves}
        for one in found.effects
    ]
    return asdict(found) | {"effects": effects}


def _trial_as_dict(trial: TrialRecord, mode: Mode) -> dict[str, Any]:
    best = trial.best(mode)
    return {
        "number": trial.number,
        "state": trial.state,
        "params": trial.params,
        "best_value": best[1] if best else None,
        "best_step": best[0] if best else None,
        "values": list(trial.values) if trial.values is not None else None,
        "step": trial.step,
        "metrics": {name: value if math.isfinite(value) else None for name, value in trial.metrics.items()},
        "lane_seconds": trial.seconds,
        "failure": trial.failure,
        "decisions": [asdict(one) for one in trial.decisions],
        "violation": trial.violation,
        "recommended": trial.recommended,
    }
