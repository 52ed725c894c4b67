"""A Ray Tune experiment that this project did not make, for people and for machines."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.analysis import ranked, spent
from results.foreign import Experiment, ForeignTrial
from results.formatting import duration, new_table, number
from results.records import TrialRecord
from results.tables import SHOWN_TRIALS, spent_table

SHOWN = 20
"""Trials of a list, and metrics of a sentence."""


def foreign_tables(experiment: Experiment) -> RenderableType:
    """What `tune analyze DIRECTORY` prints of it."""
    records = experiment.records
    states = spent_table(spent(records), len(records), steps="iterations", time="time")
    states.caption = (
        "COMPLETE: TERMINATED for Tune, which does not tell whether a scheduler stopped the trial. WAITING: PENDING or PAUSED. "
        "RUNNING: so far, or until the experiment was interrupted."
    )
    parts: list[RenderableType] = [_heading(experiment), states]
    further = (_trial_table(experiment), _best_table(experiment), _failures(experiment))
    parts += [part for part in further if part is not None]
    if experiment.notes:
        parts.append(Text("\n".join(experiment.notes)))
    return Group(*(part for one in parts for part in (one, Text())))


def _heading(experiment: Experiment) -> Text:
    text = Text()
    text.append(experiment.path.resolve().name, style="bold")
    text.append("  a Ray Tune experiment that psf-search did not make: what its JSON and CSV files say\n")
    listed = ", ".join(experiment.metrics[:SHOWN])
    if (more := len(experiment.metrics) - SHOWN) > 0:
        listed += f" and {more} more with --json"
    if experiment.metric is None:
        ask = (
            "--metric NAME --mode min|max ranks the trials" if experiment.metrics else "no trial has reported a metric"
        )
        return text.append(f"metric: none is recorded; {ask}; metrics: {listed or 'none'}")
    mode = experiment.mode or "--mode min or --mode max ranks the trials"
    return text.append(f"metric: {experiment.metric} ({mode}); metrics: {listed}")


def _trial_table(experiment: Experiment) -> Table | None:
    """Trials, the best first if it is known which is better."""
    if not experiment.trials:
        return None
    shown = _ordered(experiment)
    titles = ["iterations", "time"]
    if experiment.metric is not None:
        titles = [f"last {experiment.metric}", *(["best", "at"] if experiment.mode is not None else []), *titles]
    table = new_table("Each trial", "trial", "state", *titles)
    table.columns[1].justify = "left"
    for trial in shown[:SHOWN]:
        record, cells = trial.record, []
        if experiment.metric is not None:
            cells.append(number(record.history[-1][1]) if record.history else "-")
            if experiment.mode is not None:
                best = record.best(experiment.mode)
                cells += [number(best[1]), str(best[0])] if best else ["-", "-"]
        table.add_row(trial.id, record.state, *cells, f"{record.step:,}", duration(record.seconds))
    if (more := len(shown) - SHOWN) > 0:
        table.caption = f"{more} more with --json."
    return table


def _best_table(experiment: Experiment) -> RenderableType | None:
    """The configs of the best trials, or of the first ones, side by side as far as they differ."""
    columns = _ordered(experiment)[:SHOWN_TRIALS]
    rows = dict.fromkeys(name for trial in experiment.trials for name in trial.record.params)
    differing = {name for name in rows if len({str(one.params.get(name)) for one in experiment.records}) > 1}
    if not rows:
        return None
    table = new_table("Configs", "", *(trial.id for trial in columns))
    for name in rows:
        if name in differing or len(columns) == 1:
            table.add_row(name, *(_param(trial.record, name) for trial in columns))
    if (alike := len(rows) - len(differing)) and len(columns) > 1:
        table.caption = f"{alike} more are the same in all trials: --json."
    return table


def _failures(experiment: Experiment) -> Text | None:
    """Why trials failed, and the files that say more; lines, as Tune's folders have long names."""
    failed = [trial for trial in experiment.trials if trial.error_file is not None]
    if not failed:
        return None
    text = Text()
    text.append("Failures", style="bold")
    for trial in failed[:SHOWN]:
        text.append(f"\n{trial.id}: {trial.record.failure}\n  {trial.error_file}")
    if (more := len(failed) - SHOWN) > 0:
        text.append(f"\n{more} more with --json.", style="dim")
    return text


def _ordered(experiment: Experiment) -> list[ForeignTrial]:
    """From best to worst, then those without a value; in Tune's order if it is not known what is better."""
    if experiment.mode is None:
        return experiment.trials
    places = {record.number: place for place, record in enumerate(ranked(experiment.records, experiment.mode))}
    return sorted(experiment.trials, key=lambda trial: places.get(trial.record.number, len(places)))


def _param(record: TrialRecord, name: str) -> str:
    return number(record.params[name]) if name in record.params else "-"


def foreign_as_dict(experiment: Experiment) -> dict[str, Any]:
    """The same for machines: plain JSON values, an absent or non-finite number is None."""
    return {
        "experiment": experiment.path.resolve().name,
        "metric": experiment.metric,
        "mode": experiment.mode,
        "metrics": list(experiment.metrics),
        "trials": [_trial_as_dict(trial, experiment) for trial in _ordered(experiment)],
        "notes": list(experiment.notes),
    }


def _trial_as_dict(trial: ForeignTrial, experiment: Experiment) -> dict[str, Any]:
    record = trial.record
    best = record.best(experiment.mode) if experiment.mode is not None else None
    return {
        "id": trial.id,
        "folder": trial.folder,
        "state": record.state,
        "params": {name: _finite(value) for name, value in record.params.items()},
        "last_value": _finite(record.history[-1][1]) if record.history else None,
        "best_value": best[1] if best else None,
        "best_iteration": best[0] if best else None,
        "iterations": record.step,
        "seconds": record.seconds,
        "metrics": {name: _finite(value) for name, value in record.metrics.items()},
        "error_file": trial.error_file,
        "failure": record.failure,
    }


def foreign_rows(experiment: Experiment) -> list[dict[str, Any]]:
    """A flat row per trial, as `TrialRecord.row` with Tune's id and folder."""
    return [{"id": trial.id, "folder": trial.folder} | trial.record.row(experiment.mode) for trial in experiment.trials]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
