"""Trials of a run, read from its Optuna study into plain records. Reading works while the search is running."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import optuna
from sqlalchemy.exc import SQLAlchemyError

from results.database import Patience
from results.run_directory import MachineError, RunDirectory, RunError
from spaces.metrics import Mode, sign
from spaces.study import Scalar

State = Literal["COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL"]
STATES: tuple[State, ...] = ("COMPLETE", "PRUNED", "RUNNING", "WAITING", "FAIL")
ADVICE = "restore it from a copy, or start a new run; nothing was changed"


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """What early stopping decided at a report: `rung` is the step whose values were compared."""

    step: int
    go_on: bool
    rung: int
    reason: str


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial as the study knows it.

    `history` holds (optimizer step, objective) of every report, rising in step. `value` is what the study was told.
    `values` are those of several objectives, in their order. `seconds` is the time lanes spent on it, all its attempts and
    their starts included. `failure` says why a FAIL failed. `decisions` are those of early stopping: the first at each rung,
    and the one that stopped it. `violation` is how far it is outside the constraints, 0 if it keeps to them. `recommended`
    marks the trial with the reference values, which a search starts with.
    """

    number: int
    state: State
    params: dict[str, Scalar]
    history: tuple[tuple[int, float], ...]
    values: tuple[float, ...] | None
    step: int
    metrics: dict[str, float]
    seconds: float
    lane: str | None
    failure: str | None
    decisions: tuple[DecisionRecord, ...]
    violation: float
    recommended: bool
    started: datetime | None
    ended: datetime | None

    @property
    def value(self) -> float | None:
        """Of the first objective."""
        return None if self.values is None else self.values[0]

    def best(self, mode: Mode) -> tuple[int, float] | None:
        """(step, objective) of the best report, which the `best` checkpoint holds; None without a finite one."""
        finite = [point for point in self.history if math.isfinite(point[1])]
        if not finite:
            return None
        return min(finite, key=lambda point: (sign(mode) * point[1], point[0]))

    def at(self, step: int) -> float | None:
        """The objective reported at a step; None when none was, or it was not finite."""
        return next((value for at, value in self.history if at == step and math.isfinite(value)), None)

    def row(self, mode: Mode | None) -> dict[str, Any]:
        """One flat row of a table of trials: `value` is the best report, or without a mode the last; then `params_*` and metrics."""
        last = self.history[-1] if self.history else None
        best = last if mode is None else self.best(mode)
        row: dict[str, Any] = {
            "number": self.number,
            "state": self.state,
            "value": None if best is None else best[1],
            "step": self.step,
            "seconds": self.seconds,
            "lane": self.lane,
            "failure": self.failure,
        }
        row |= {f"params_{name}": value for name, value in self.params.items()}
        # A metric of others may be called `step` or `state`, too.
        return row | {f"metrics_{name}" if name in row else name: value for name, value in self.metrics.items()}


def check_database(path: Path) -> None:
    """Look through a whole study database for damage, changing nothing.

    Raises:
        RunError: missing, truncated or not a database.
    """
    if not path.is_file():
        raise RunError(f"{path}: missing; the search has not started its study yet, or the file was removed")
    try:
        connection = _connect(path)
        try:
            verdict = connection.cursor().execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError as error:  # not ours to open
        raise RunError(f"{path}: the study database cannot be read: {error}") from None
    except sqlite3.Error as error:
        raise RunError(f"{path}: the study database is damaged ({error}); {ADVICE}") from None
    if verdict != "ok":
        raise RunError(f"{path}: the study database is damaged ({verdict.splitlines()[-1]}); {ADVICE}")


def read_trials(run: RunDirectory) -> list[TrialRecord]:
    """All trials of a run by rising number.

    Raises:
        RunError: the study database is missing or damaged, or holds no study of this run's name.
    """
    check_database(run.study_db)
    name = run.read_record().name
    try:
        storage = optuna.storages.RDBStorage(
            "sqlite://",
            {"creator": lambda: _connect(run.study_db)},
            skip_compatibility_check=True,
            skip_table_creation=True,
        )
        try:
            trials = storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
        finally:
            storage.engine.dispose()
    except KeyError:
        raise RunError(f"{run.study_db}: holds no study named {name}; {ADVICE}") from None
    except MachineError:  # locked: nothing is damaged
        raise
    except (SQLAlchemyError, optuna.exceptions.OptunaError, LookupError, ValueError) as error:
        raise RunError(f"{run.study_db}: the study cannot be read ({_one_line(error)}); {ADVICE}") from None
    return [trial_record(trial) for trial in sorted(trials, key=lambda trial: trial.number)]


def trial_record(trial: optuna.trial.FrozenTrial) -> TrialRecord:
    """What a study, on disk or in memory, holds of a trial."""
    history = tuple(sorted(trial.intermediate_values.items()))
    progress: dict[str, Any] = trial.user_attrs.get("progress", {})
    return TrialRecord(
        number=trial.number,
        state=trial.state.name,  # type: ignore[arg-type]  # the enum's names are STATES
        params=dict(trial.params),
        history=history,
        values=None if trial.values is None else tuple(trial.values),
        step=progress.get("step", history[-1][0] if history else 0),
        metrics=progress.get("metrics", {}),
        seconds=progress.get("seconds", 0.0),
        lane=progress.get("lane"),
        failure=trial.user_attrs.get("failure"),
        decisions=tuple(DecisionRecord(**decision) for decision in progress.get("decisions", ())),
        violation=sum(max(0.0, violation) for violation in trial.constraints.values()),
        recommended=trial.number == 0,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def _connect(path: Path) -> sqlite3.Connection:
    """`mode=rw` never creates a file, and unlike `ro` it reads a database whose writer was killed inside a commit."""
    return Patience(path).connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)


def _one_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
