"""Ray Tune experiments that this project did not make, read from what is plain text in them.

experiment_state-TIME.json   configs, states and last results of all trials; the newest that is whole counts
TRIAL/params.json            a trial's config
TRIAL/result.json            a JSON object per report; TRIAL/progress.csv has the same as a table
TRIAL/error.txt              why it failed

Ray's own readers unpickle what these hold, which runs code. Here nothing is unpickled, a pickle inside of JSON stays the text that
it is, no .pkl is opened, nothing outside of the directory is read, and nothing is written. Keys may be missing: Ray's versions differ.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from results.foreign_files import (
    STATE_FILES,
    Reports,
    as_number,
    is_there,
    last_line,
    read_json,
    read_reports,
    trial_folders,
)
from results.records import State, TrialRecord
from results.run_directory import RunError
from spaces.errors import SpaceError, nearest
from spaces.metrics import Mode
from spaces.study import Scalar

STATES: dict[str, State] = {
    "PENDING": "WAITING",
    "PAUSED": "WAITING",
    "RUNNING": "RUNNING",
    "TERMINATED": "COMPLETE",
    "ERROR": "FAIL",
}
PICKLED = "(pickled: not read)"
NESTED = "(nested too deeply: not read)"
DEEPEST = 20
LONGEST = 60
"""Characters of a config's value that is no number and no word."""
# What Ray itself adds to each report: no metrics, but for the time.
BOOKKEEPING = {
    "timestamp", "training_iteration", "time_this_iter_s", "time_total_s", "time_since_restore", "timesteps_since_restore",
    "iterations_since_restore", "timesteps_total", "episodes_total", "pid", "done", "trial_id", "experiment_id", "date", "hostname",
    "node_ip", "warmup_time", "experiment_tag", "checkpoint_dir_name", "should_checkpoint", "trial_num",
}  # fmt: skip


@dataclass(frozen=True)
class ForeignTrial:
    """A trial as Ray Tune knows it: its id, its folder in the experiment, and, with one, the file that says why it failed.

    `record` has it in this project's form: steps are training iterations, the objective is the experiment's metric, and a trial that
    Tune calls TERMINATED is COMPLETE, for Tune does not tell whether a scheduler stopped it.
    """

    id: str
    folder: str
    error_file: str | None
    record: TrialRecord


@dataclass(frozen=True)
class Experiment:
    """What could be read of an experiment.

    `metric` is the one asked for, or the experiment's own if it is recorded; `mode` only the one asked for, as Tune keeps none.
    `metrics` are the names of all that trials report. `notes` say what could not be read.
    """

    path: Path
    metric: str | None
    mode: Mode | None
    metrics: tuple[str, ...]
    trials: list[ForeignTrial]
    notes: tuple[str, ...]

    @property
    def records(self) -> list[TrialRecord]:
        return [trial.record for trial in self.trials]


@dataclass
class _Found:
    """A trial before it is known by which metric it is read."""

    folder: Path
    state: State | None = None
    id: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)


def read_experiment(path: Path, metric: str | None = None, mode: Mode | None = None) -> Experiment:
    """Read an experiment's directory, finished or not.

    Args:
        metric: by which trials are read; the experiment's own unless given.
        mode: its direction; without one trials are not ranked.

    Raises:
        SpaceError: there is no such metric.
        RunError: the directory cannot be read.
    """
    notes: list[str] = []
    try:
        found, own = _of_state(path, notes)
        known = {one.folder for one in found}
        found += [_Found(folder) for folder in sorted(trial_folders(path)) if folder not in known]
        chosen = metric or own
        read = [(one, read_reports(one.folder, path, chosen, notes)) for one in found]
        trials = [_trial(number, path, one, reports, notes) for number, (one, reports) in enumerate(read)]
    except OSError as error:
        raise RunError(printable(f"{error.filename or path}: cannot be read: {error.strerror}")) from None
    metrics = tuple(dict.fromkeys(name for trial in trials for name in trial.record.metrics))
    if metric is not None and metric not in metrics:
        raise SpaceError(f"--metric {metric}: no trial of {path} reports it; {nearest(metric, metrics)}")
    named = None if chosen is None else printable(chosen)
    return Experiment(path, named, mode, metrics, trials, tuple(map(printable, notes)))


def _of_state(path: Path, notes: list[str]) -> tuple[list[_Found], str | None]:
    """The trials of the newest state that is whole, and the metric of the experiment."""
    for file in sorted(path.glob(STATE_FILES), reverse=True):  # the name has the time
        state = read_json(file, path, notes)
        if isinstance(state, dict):
            entries = state.get("trial_data") or state.get("checkpoints")  # until Ray 2.3
            of_runner = state.get("runner_data")
            own = of_runner.get("_metric") if isinstance(of_runner, dict) else None
            found = (_of_entry(path, entry) for entry in entries) if isinstance(entries, list) else ()
            return [one for one in found if one is not None], own if isinstance(own, str) else None
    return [], None


def _of_entry(path: Path, entry: Any) -> _Found | None:
    """A trial of a state: a pair of JSON texts, what it is and what it has come to; in old versions one text of both."""
    parts = entry if isinstance(entry, list) else [entry]
    known: dict[str, Any] = {}
    for part in parts:
        try:
            told = json.loads(part) if isinstance(part, str) else part
        except (ValueError, RecursionError):
            continue
        known |= told if isinstance(told, dict) else {}
    name = Path(str(known.get("relative_logdir") or known.get("logdir") or "")).name  # never a place elsewhere
    if not name:
        return None
    return _Found(
        folder=path / name,
        state=STATES.get(str(known.get("status"))),
        id=str(known["trial_id"]) if "trial_id" in known else None,
        config=_mapping(known.get("config")),
        last=_mapping(known.get("last_result")),
    )


def _trial(number: int, path: Path, found: _Found, reports: Reports, notes: list[str]) -> ForeignTrial:
    last = _mapping(reports.last) or found.last
    config = (
        found.config or _mapping(read_json(found.folder / "params.json", path, notes)) or _mapping(last.get("config"))
    )
    error = found.folder / "error.txt"
    failed = is_there(error, path)
    state = found.state or _state(last, failed)
    finite = [value for _, value in reports.history if math.isfinite(value)]
    iteration, seconds = last.get("training_iteration"), as_number(last.get("time_total_s")) or 0.0
    id, folder = found.id or str(last.get("trial_id") or found.folder.name), printable(found.folder.name)
    record = TrialRecord(
        number=number,
        state=state,
        params={name: _scalar(value) for name, value in flat(config).items()},
        history=reports.history,
        values=(finite[-1],) if finite and state == "COMPLETE" else None,
        step=iteration if isinstance(iteration, int) else len(reports.history),
        metrics=_metrics(last),
        seconds=seconds if math.isfinite(seconds) else 0.0,
        lane=None,
        failure=printable(last_line(error)) if failed else None,
        decisions=(),
        violation=0.0,
        recommended=False,
        started=None,
        ended=None,
    )
    return ForeignTrial(printable(id), folder, f"{folder}/{error.name}" if failed else None, record)


def _state(last: dict[str, Any], failed: bool) -> State:
    """What the files of a trial say, of which no state is recorded."""
    if failed:
        return "FAIL"
    return "COMPLETE" if last.get("done") else "RUNNING" if last else "WAITING"


def flat(tree: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested keys joined by `/`, as Tune joins them. A pickle that is stored as text is one value, `PICKLED`."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = printable(f"{prefix}{key}")
        if _is_pickle(value):
            found[name] = PICKLED
        elif depth == DEEPEST:
            found[name] = NESTED if isinstance(value, dict | list) else value
        elif isinstance(value, dict) and value:
            found |= flat(value, f"{name}/", depth + 1)
        else:
            found[name] = value
    return found


def printable(text: str) -> str:
    """Text without what steers a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _is_pickle(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_type") == "CLOUDPICKLE_FALLBACK"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) and not _is_pickle(value) else {}


def _metrics(report: dict[str, Any]) -> dict[str, float]:
    """What a report has of numbers, but for what Ray adds and for the config."""
    found = {name: as_number(value) for name, value in flat(report).items()}
    return {
        name: value
        for name, value in found.items()
        if value is not None and name not in BOOKKEEPING and not name.startswith("config/")
    }


def _scalar(value: Any) -> Scalar:
    if isinstance(value, bool | int | float):
        return value
    try:
        text = printable(value if isinstance(value, str) else json.dumps(value))
    except RecursionError:
        return NESTED
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
