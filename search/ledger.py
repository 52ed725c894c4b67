"""A search's Optuna study: in memory for the samplers, and on disk, where every change is before it counts.

Optuna commits each suggestion to its database on its own and reads the database before each: 40 ms per trial at a hundred
trials, and more with each. One process writes a search's study, so it keeps the trials in memory, where asking costs what
the sampler costs, and the database gets a new trial in one commit, a report in two and an end in a few. What is on disk is
an ordinary Optuna study, which Optuna's dashboards read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.samplers import BaseSampler
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from spaces.study import Objective, Scalar

DIRECTIONS = {"min": StudyDirection.MINIMIZE, "max": StudyDirection.MAXIMIZE}


class _WalConnection(sqlite3.Connection):
    """In WAL mode a killed process loses nothing; a power cut may cost the last reports, never the database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


class _Disk(optuna.storages.RDBStorage):
    """Takes parameters as they come.

    Optuna's looks up each one's earlier distribution first, which costs as much as all the rest of a new trial, and refuses
    the choices that a resumed run has changed.
    """

    def _set_trial_param_without_commit(
        self,
        session: Any,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None = None,
    ) -> None:
        session.add(
            models.TrialParamModel(
                trial_id=trial_id,
                param_name=param_name,
                param_value=param_value_internal,
                distribution_json=distribution_to_json(distribution),
            )
        )


class Ledger:
    """The study `name` in the database at `url`, made on first use. For one process at a time: the run's lock sees to it.

    Trials are known by their number.

    Args:
        objectives: one or several.
        sampler: what the study is asked with; sees the study in memory, `trials`.
    """

    def __init__(self, url: str, name: str, objectives: Sequence[Objective], sampler: BaseSampler) -> None:
        optuna.logging.disable_default_handler()
        optuna.logging.enable_propagation()
        directions = [DIRECTIONS[objective.mode] for objective in objectives]
        self._disk = _Disk(url, engine_kwargs={"connect_args": {"factory": _WalConnection}})
        stored = optuna.create_study(storage=self._disk, study_name=name, directions=directions, load_if_exists=True)
        self._study_id = stored._study_id
        self._memory = optuna.create_study(directions=directions, sampler=sampler, study_name=name)
        self._requeue()  # trials that a killed search left running; the lock says that nobody runs them now
        self._ids: list[int] = []
        self._attributes: dict[int, dict[str, Any]] = {}
        """Of each trial that has not ended: what is on disk of the attributes that samplers keep with it."""
        self._running: dict[int, optuna.Trial] = {}
        for trial in self._disk.get_all_trials(self._study_id):
            self._append(trial, trial._trial_id)
            self._memory._storage.create_new_trial(self._memory._study_id, template_trial=trial)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials by rising number; not to be changed."""
        return self._memory._storage.get_all_trials(self._memory._study_id, deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        return self.trials[number]

    def enqueue(self, params: dict[str, Scalar]) -> None:
        """Add a waiting trial with given parameters; waiting trials are asked for first, in their order."""
        self._memory.enqueue_trial(params)
        trial = self.trials[-1]
        self._append(trial, self._disk.create_new_trial(self._study_id, template_trial=trial))

    def ask(self, suggest: Callable[[optuna.Trial], dict[str, Scalar]]) -> tuple[int, dict[str, Scalar]]:
        """Number and parameters of the next trial, which is running from now on."""
        trial = self._memory.ask()
        self._running[trial.number] = trial
        params = suggest(trial)
        frozen = self.trial(trial.number)
        if trial.number == len(self._ids):
            self._append(frozen, self._disk.create_new_trial(self._study_id, template_trial=frozen))
            return trial.number, params
        identity = self._ids[trial.number]  # it was waiting
        known = self._disk.get_trial(identity).params
        for name, distribution in frozen.distributions.items():
            if name not in known:
                value = distribution.to_internal_repr(frozen.params[name])
                self._disk.set_trial_param(identity, name, value, distribution)
        self._disk.set_trial_state_values(identity, TrialState.RUNNING)
        return trial.number, params

    def report(self, number: int, step: int, value: float) -> None:
        for storage, identity in self._places(number):
            storage.set_trial_intermediate_value(identity, step, value)

    def note(self, number: int, **attributes: Any) -> None:
        """Set user attributes of a trial: JSON values."""
        for name, value in attributes.items():
            for storage, identity in self._places(number):
                storage.set_trial_user_attr(identity, name, value)

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
        trial = self._running.pop(number)
        for name, violation in (constraints or {}).items():
            trial.set_constraint(name, violation)
        self._memory.tell(number, None if values is None else list(values), state)
        ended, identity = self.trial(number), self._ids[number]
        stored = self._attributes.pop(number)
        for key, value in ended.system_attrs.items():  # what samplers keep with a trial, and constraints
            if stored.get(key) != value:
                self._disk.set_trial_system_attr(identity, key, value)
        self._disk.set_trial_state_values(identity, state, ended.values)

    def close(self) -> None:
        """Trials that still run are interrupted: on disk they wait, with their parameters and reports."""
        self._requeue()
        self._disk.engine.dispose()

    def _requeue(self) -> None:
        for trial in self._disk.get_all_trials(self._study_id, deepcopy=False, states=(TrialState.RUNNING,)):
            self._disk.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _append(self, trial: FrozenTrial, identity: int) -> None:
        self._ids.append(identity)
        if not trial.state.is_finished():
            self._attributes[trial.number] = dict(trial.system_attrs)

    def _number_id(self, number: int) -> int:
        return self.trial(number)._trial_id

    def _places(self, number: int) -> list[tuple[Any, int]]:
        return [(self._memory._storage, self._number_id(number)), (self._disk, self._ids[number])]
