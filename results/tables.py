"""Tables of a run for people. Functions return rich renderables that fit 80 columns; printing is the caller's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.analysis import Analysis, analyze
from results.importance import CLEAR, SHUFFLES, Importance
from results.records import TrialRecord
from results.run_directory import RunDirectory
from spaces.metrics import METRICS, Mode

SHOWN_TRIALS = 4
METHODS = {
    "document": "documents' values",
    "best": "best trial",
    "nearest": "nearest neighbour",
    "bilinear": "bilinear",
    "rbf_cubic": "cubic RBF",
}
INTERPOLATIONS = ("nearest", "bilinear", "rbf_cubic")
METRIC_TITLES = {
    "prior_rel_l2": "rel. L2",
    "prior_psnr": "PSNR (dB)",
    "prior_centroid_px": "centroid (px)",
    "prior_radius_error_px": "radius (px)",
}


def analysis(run: RunDirectory) -> RenderableType:
    """What `tune analyze RUN` prints.

    Raises:
        RunError: the run's files are missing or damaged.
    """
    return analysis_tables(analyze(run))


def analysis_tables(analysis: Analysis) -> RenderableType:
    """All tables of an analysis, one below the other."""
    parts: list[RenderableType] = [heading(analysis), state_table(analysis), best_table(analysis)]
    if analysis.summary is not None:
        parts.append(comparison_table(analysis.summary.test))
    parts.append(importance_table(analysis.importance, analysis))
    return Group(*(part for one in [*parts, notes(analysis)] for part in (one, Text())))


def heading(analysis: Analysis) -> Text:
    record, objective = analysis.record, analysis.study.objective
    state = "finished" if analysis.summary else "not finished: these are the results so far"
    text = Text()
    text.append(record.name, style="bold")
    text.append(f"  {record.space}, preset {record.preset}, seed {record.seed}, lens {record.lens.name}; {state}\n")
    text.append(f"objective: {objective.metric} ({objective.mode}), {METRICS[objective.metric].meaning}")
    return text


def state_table(analysis: Analysis) -> Table:
    """Trials, steps and lane time by state."""
    table = _table("Trials", "state", "trials", "steps", "lane time", "share")
    total = sum(cost.lane_seconds for cost in analysis.spent.values())
    for state, cost in analysis.spent.items():
        share = f"{cost.lane_seconds / total:.0%}" if total else "-"
        table.add_row(state, str(cost.trials), f"{cost.steps:,}", duration(cost.lane_seconds), share)
    steps = sum(cost.steps for cost in analysis.spent.values())
    table.add_section()
    table.add_row("all", str(len(analysis.trials)), f"{steps:,}", duration(total), "100%" if total else "-")
    return table


def best_table(analysis: Analysis) -> RenderableType:
    """The best trials side by side, the documents' values first: one column per trial reads well with many rows."""
    if not analysis.ranking:
        return Text("no trial has reported yet")
    document, best = analysis.document, analysis.ranking[:SHOWN_TRIALS]
    table = _table("Best trials", "")
    columns: list[TrialRecord] = []
    if document is not None and document not in best:
        columns.append(document)
    columns += best
    for trial in columns:
        kind = "documents'" if trial.recommended else f"#{trial.number}"
        style = "bold" if trial is best[0] else None
        table.add_column(kind, justify="right", style=style, no_wrap=True)

    def row(title: str, values: list[str]) -> None:
        table.add_row(title, *values)

    points = [trial.best(analysis.mode) for trial in columns]
    row(analysis.study.objective.metric.removeprefix("val/"), [number(point[1]) if point else "-" for point in points])
    row("at step", [str(point[0]) if point else "-" for point in points])
    row("state", [trial.state.lower() for trial in columns])
    row("lane time", [duration(trial.seconds) for trial in columns])
    table.add_section()
    for name in analysis.study.search:
        row(name, [number(trial.params[name]) if name in trial.params else "-" for trial in columns])
    return table


def comparison_table(test: Mapping[str, Mapping[str, float]]) -> Table:
    """Every method at the sealed test positions; the best value of each column is bold.

    The last column is how many times smaller the relative L2 error is than with the documents' values.
    """
    metrics = [name for name in METRIC_TITLES if any(name in values for values in test.values())]
    table = _table("At the test positions", "", *(METRIC_TITLES[name] for name in metrics), "documents' / this")
    best = {}
    for name in metrics:
        column = [row[name] for row in test.values() if name in row]
        best[name] = max(column) if METRICS[f"test/{name}"].mode == "max" else min(column)
    for method, values in sorted(
        test.items(), key=lambda item: list(METHODS).index(item[0]) if item[0] in METHODS else 99
    ):
        cells = []
        for name in metrics:
            style = "bold" if values.get(name) == best[name] else ""
            cells.append(Text(number(values[name]) if name in values else "-", style=style))
        against = test.get("document", {}).get("prior_rel_l2")
        error = values.get("prior_rel_l2")
        factor = f"{against / error:.1f}" if against and error else "-"
        table.add_row(METHODS.get(method, method), *cells, factor)
    return table


def importance_table(found: Importance, analysis: Analysis) -> RenderableType:
    """Importance of each parameter beside the source document's label, its value there and the best one."""
    if found.reason:
        return Text(f"Importance: {found.reason}.")
    steps = analysis.record.budget().steps
    table = _table("Importance", "", "share", "", "p", "document's label", "documents' value", "best value")
    table.columns[2].justify = table.columns[4].justify = "left"
    best = analysis.ranking[0].params if analysis.ranking else {}
    for one in found.parameters:
        table.add_row(
            one.name,
            f"{one.share:.2f}",
            "#" * round(10 * one.share),
            f"{one.p:.2f}",
            one.label or "-",
            number(analysis.study.search[one.name].recommended),
            number(best[one.name]) if one.name in best else "-",
            style=None if one.clear else "dim",
        )
    table.caption = (
        f"PED-ANOVA on the ranks of {found.trials} trials at step {found.step} of {steps}: the {found.top} best against all. "
        f"p: chance of as much without any effect, {SHUFFLES} shuffles; above {CLEAR} it is not told apart from noise."
    )
    table.caption_justify = "left"
    return table


def notes(analysis: Analysis) -> Text:
    """The gain over the documents' values, and parameters whose best value lies at the end of a range."""
    lines = []
    gain = analysis.gain
    if gain is not None:
        factor = f": {gain.factor:.1f} times less" if gain.factor is not None and gain.factor >= 1 else ""
        lines.append(
            f"{gain.metric}: best {number(gain.best)}, documents' values {number(gain.document)}{factor} ({gain.where})."
        )
    lines += _still_better(analysis)
    clear = {one.name for one in analysis.importance.parameters if one.clear}
    for told_apart, remark in ((True, ""), (False, " (importance not told apart from noise)")):
        at_end = [edge for edge in analysis.edges if (edge.name in clear) is told_apart]
        if at_end:
            listed = ", ".join(
                f"{edge.name} {number(edge.value)} ({edge.end} end {number(edge.bound)})" for edge in at_end
            )
            lines.append(f"Best value at an end of its range, so better ones may lie outside: {listed}{remark}.")
    if analysis.edges:
        lines.append(f"To look outside: {analysis.edges[0].advice}.")
    failed = [trial for trial in analysis.trials if trial.state == "FAIL"]
    lines += [f"Trial #{trial.number} failed: {trial.failure or 'no reason recorded'}" for trial in failed[:3]]
    if len(failed) > 3:
        lines.append(f"... and {len(failed) - 3} more failed.")
    return Text("\n".join(lines))


def _still_better(analysis: Analysis) -> list[str]:
    """A sentence if an interpolation of the training grid beats the best trial at the test positions."""
    if analysis.summary is None:
        return []
    name = analysis.summary.objective.metric.removeprefix("val/")
    sign = 1 if analysis.mode == "min" else -1
    scores = {method: values[name] for method, values in analysis.summary.test.items() if name in values}
    if "best" not in scores:
        return []
    better = [
        f"{METHODS[method]} {number(scores[method])}"
        for method in INTERPOLATIONS
        if method in scores and sign * scores[method] < sign * scores["best"]
    ]
    return [f"Interpolation of the training grid is still better: {', '.join(better)}."] if better else []


def analysis_as_dict(run: RunDirectory) -> dict[str, Any]:
    """What `tune analyze RUN --json` prints: plain JSON values, an absent or non-finite number is None.

    Raises:
        RunError: the run's files are missing or damaged.
    """
    analysis = analyze(run)
    mode = analysis.mode
    return {
        "run": analysis.record.name,
        "space": analysis.record.space,
        "preset": analysis.record.preset,
        "objective": analysis.study.objective.model_dump(),
        "finished": analysis.summary is not None,
        "states": {state: asdict(cost) for state, cost in analysis.spent.items()},
        "trials": [_trial_as_dict(trial, mode) for trial in analysis.trials],
        "ranking": [trial.number for trial in analysis.ranking],
        "importance": asdict(analysis.importance),
        "edges": [asdict(edge) for edge in analysis.edges],
        "gain": asdict(analysis.gain) if analysis.gain else None,
        "test": analysis.summary.test if analysis.summary else None,
    }


def _trial_as_dict(trial: TrialRecord, mode: Mode) -> dict[str, Any]:
    best = trial.best(mode)
    return {
        "number": trial.number,
        "state": trial.state,
        "params": trial.params,
        "best_value": best[1] if best else None,
        "best_step": best[0] if best else None,
        "step": trial.step,
        "metrics": {name: value if math.isfinite(value) else None for name, value in trial.metrics.items()},
        "lane_seconds": trial.seconds,
        "failure": trial.failure,
        "recommended": trial.recommended,
    }


def number(value: object) -> str:
    """A value in at most 9 characters where it is a number: four digits, `1e-04` written `1e-4`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    text = f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 07 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", caption_style="dim", box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="right")
    return table
