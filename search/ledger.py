"""A search's Optuna study: the one record of its trials, in SQLite, where every change is before it counts.

It is an ordinary study, which Optuna's dashboards read. It only records: what to try next is decided elsewhere, from the
trials that it has (search/sampler.py).
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from results.database import Patience
from results.run_directory import RunError
from search.optuna_fence import FreeChoices
from spaces.study import Objective, Scalar

logger = logging.getLogger(__name__)

DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


class Ledger:
    """The study `name` in the database at `url`, made on first use. For one process at a time: the run's lock sees to it.

    Trials are known by their number.

    Args:
        objectives: one or several.
        suggest: the next trial, WAITING, from all trials so far.
        said: told when it waits for another program that uses the database.

    Raises:
        RunError: from every method, when that program does not let go of it for a minute, or after `halt`.
    """

    def __init__(
        self,
        url: str,
        name: str,
        objectives: Sequence[Objective],
        suggest: Callable[[Sequence[FrozenTrial]], FrozenTrial],
        said: Callable[[str], None] = logger.warning,
    ) -> None:
        optuna.logging.disable_default_handler()
        optuna.logging.enable_propagation()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each suggestion says that it made a study
        self._patience = Patience(Path(url.removeprefix("sqlite:///")), said)
        self._storage = FreeChoices(url, engine_kwargs={"connect_args": {"factory": self._connect}})
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            directions=[DIRECTIONS[objective.mode] for objective in objectives],
            sampler=optuna.samplers.RandomSampler(),  # never asked for a value
            load_if_exists=True,
        )
        self._study_id = self._storage.get_study_id_from_name(name)
        self._suggest = suggest
        # Nobody else writes to the study, so what is in it is known. Optuna itself reads all unfinished trials again for each question,
        # which with a thousand of them takes seconds.
        self._trials = self._study.get_trials()
        self._ids = [self._find(trial.number) for trial in self._trials]
        self._waiting = deque(trial.number for trial in self._trials if trial.state is TrialState.WAITING)
        self._requeue()  # trials that a killed search left running; the lock says that nobody runs them now

    @property
    def failure(self) -> RunError | None:
        """Why nothing can be written any more."""
        return self._patience.failure

    def halt(self, failure: RunError) -> None:
        """Let nothing be written any more: every method raises this."""
        self._patience.failure = failure

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by rising number; not to be changed."""
        return [*self._trials]

    def trial(self, number: int) -> FrozenTrial:
        return self._trials[number]

    def enqueue(self, trial: FrozenTrial) -> None:
        """Add a WAITING trial, which has its parameters; waiting trials are asked for first, in their order."""
        self._study.add_trial(trial)
        number = len(self._trials)
        self._ids.append(self._find(number))
        self._trials.append(self._storage.get_trial(self._ids[number]))
        self._waiting.append(number)

    def ask(self) -> tuple[int, dict[str, Scalar]]:
        """Number and parameters of the next trial, which is running from now on."""
        if not self._waiting:
            self.enqueue(self._suggest(self.trials))
        number = self._waiting[0]
        self._storage.set_trial_state_values(self._ids[number], TrialState.RUNNING)
        self._waiting.popleft()
        return number, self._read(number).params

    def report(self, number: int, step: int, value: float) -> None:
        # Not the trial's own method, which refuses several objectives.
        self._storage.set_trial_intermediate_value(self._ids[number], step, value)
        self._trials[number].intermediate_values[step] = value

    def note(self, number: int, **attributes: Any) -> None:
        """Set user attributes of a trial: JSON values."""
        for name, value in attributes.items():
            self._storage.set_trial_user_attr(self._ids[number], name, value)
            self._trials[number].user_attrs[name] = value

    def tell(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        constraints: dict[str, float] | None = None,
    ) -> None:
        """End a trial.

        Args:
            values: of the objectives, for COMPLETE; with one objective PRUNED has its last report's.
            constraints: by name; above 0 is a violation.
        """
        trial = optuna.Trial(self._study, self._ids[number])
        for name, violation in (constraints or {}).items():
            trial.set_constraint(name, violation)
        self._study.tell(trial, values, state)
        self._read(number)

    def close(self) -> None:
        """Trials that still run are interrupted: they wait, with their parameters and reports."""
        with suppress(RunError):  # the next search makes them wait
            self._requeue()
        self._storage.engine.dispose()

    def _connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """In WAL mode a killed process loses nothing; a power cut may cost the last reports, never the database."""
        connection = self._patience.connect(*arguments, **options)
        cursor = connection.cursor()  # whose calls wait; the connection's own do not
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()
        return connection

    def _requeue(self) -> None:
        running = [trial.number for trial in self._trials if trial.state is TrialState.RUNNING]
        for number in running:
            self._storage.set_trial_state_values(self._ids[number], TrialState.WAITING)
            self._read(number)
        self._waiting = deque(sorted([*self._waiting, *running]))

    def _read(self, number: int) -> FrozenTrial:
        self._trials[number] = self._storage.get_trial(self._ids[number])
        return self._trials[number]

    def _find(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
