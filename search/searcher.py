"""Tune's searcher over an Optuna study: the study, on disk, is the one record of every trial.

Ray ships an OptunaSearch; it tells Optuna that stopped trials are complete, leaves NaN trials running for ever and
merges two searches in one storage. This one asks and tells a named study itself.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass, field
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.sampler import FairSampler
from spaces.seeding import named_seed
from spaces.study import Budget, Scalar, Study
from trainables.board import NO_LANE


class Observer(Protocol):
    """What a person is shown of the trials' lives."""

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None: ...
    def trial_reported(self, number: int, step: int, value: float) -> None: ...
    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None: ...


@dataclass(slots=True)
class _Running:
    trial: optuna.Trial
    step: int = 0
    value: float | None = None
    best: float | None = None
    failure: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)


def ask(trial: optuna.Trial, space: Study) -> dict[str, Scalar]:
    """Suggest a value for every searched parameter whose condition holds."""
    values: dict[str, Scalar] = {}
    for name, parameter in space.search.items():
        if not space.exists(parameter, values):
            continue
        if parameter.choices is not None:
            values[name] = _known(trial.suggest_categorical(name, list(parameter.choices)))
            continue
        low, high, step = parameter.low, parameter.high, parameter.step
        assert low is not None
        assert high is not None
        if space.is_integer(name):
            values[name] = trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=parameter.log)
        else:
            values[name] = trial.suggest_float(name, low, high, step=step, log=parameter.log)
    return values


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the study for parameters, reports every value to it, and tells it how each trial ended.

    Finished at full budget -> COMPLETE with its best value, that of its `best` checkpoint; stopped at a rung -> PRUNED
    with its last step and value; a failure or a non-finite value -> FAIL with the reason in the user attribute `failure`.

    Args:
        study: an Optuna study in any storage.
        space: what to suggest.
        steps: a full trial's steps.
        observer: told of every event.
    """

    def __init__(self, study: optuna.Study, space: Study, steps: int, observer: Observer) -> None:
        super().__init__(metric=space.objective.metric, mode=space.objective.mode)
        self._study = study
        self._space = space
        self._steps = steps
        self._observer = observer
        self._running: dict[str, _Running] = {}
        self.no_lane: str | None = None
        """Set when the last lane is lost: the reason. Trials it strikes are left to be resumed."""

    def suggest(self, trial_id: str) -> Any:
        """{number, params} of the next trial, or `Searcher.FINISHED` when no lane is left to train it."""
        if self.no_lane is not None:
            return Searcher.FINISHED
        trial = self._study.ask()
        params = ask(trial, self._space)
        running = self._running[trial_id] = _Running(trial)
        earlier = self._study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if earlier:  # interrupted and resumed
            running.step = max(earlier)
            running.value = earlier[running.step]
            for value in earlier.values():
                running.best = self._better(running.best, value)
        if trial.number == 0:
            running.attributes["recommended"] = True
        self._observer.trial_started(trial.number, params)
        return {"number": trial.number, "params": params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        running = self._running[trial_id]
        running.attributes |= {"seconds": result["seconds"], "lane": result["lane"]}
        running.failure = running.failure or result["failure"]
        value = result.get(self._space.objective.metric)
        if value is None:
            return
        if not math.isfinite(value):
            running.failure = f"{self._space.objective.metric} is {value} at step {result['step']}"
            return
        if result["step"] > running.step:  # a retried trial repeats its last report
            running.step, running.value = result["step"], value
            running.best = self._better(running.best, value)
            running.attributes |= {"step": result["step"], "metrics": _metrics(result)}
            running.trial.report(value, result["step"])
            self._observer.trial_reported(running.trial.number, result["step"], value)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if result is not None:  # a stopped trial's last report comes only here
            self.on_trial_result(trial_id, result)
        running = self._running.pop(trial_id)
        if running.failure and running.failure.startswith(NO_LANE):
            self.no_lane = running.failure
            return
        if error:
            running.failure = running.failure or "the trial's process died and its retries with it"
        elif running.failure is None and running.value is None:
            running.failure = "ended without a report"
        if running.failure:
            running.attributes["failure"] = running.failure
            state, value = TrialState.FAIL, None
        elif running.step < self._steps:
            state, value = TrialState.PRUNED, None  # Optuna takes the last reported value
        else:
            state, value = TrialState.COMPLETE, running.best
        for name, attribute in running.attributes.items():
            running.trial.set_user_attr(name, attribute)
        self._study.tell(running.trial, value, state)
        self._observer.trial_ended(running.trial.number, state.name, running.step, running.value, running.failure)

    def _better(self, best: float | None, value: float) -> float:
        return value if best is None else (min if self.mode == "min" else max)(best, value)

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes a pickle of its parts when it starts. Nothing reads it, so it need hold nothing."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk, and nothing here is ever unpickled."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is resumed from its study, not from Tune's files")


class _WalConnection(sqlite3.Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def open_study(url: str, name: str, space: Study, budget: Budget) -> optuna.Study:
    """The Optuna study of a run, made on first use with its given first trials: the documents' values are number 0.

    Optuna commits every suggestion on its own, and each commit would wait for the disk: 0.6 s per trial instead of
    0.15. In WAL mode a killed process loses nothing; a power cut may cost the last reports, never the database.
    """
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    study = optuna.create_study(
        storage=optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"factory": _WalConnection}}),
        study_name=name,
        direction="minimize" if space.objective.mode == "min" else "maximize",
        sampler=FairSampler(
            lambda number: optuna.samplers.TPESampler(seed=named_seed(space.seed, "sampler", number)),
            levels=[*budget.rungs(), budget.steps],
            reduction_factor=budget.reduction_factor,
        ),
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        for values in space.first_trials()[: budget.trials]:
            study.enqueue_trial(values)
    return study


def requeue(study: optuna.Study) -> list[int]:
    """RUNNING trials of a search that is no more become WAITING: the next asks return them, with their parameters."""
    numbers = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)
        numbers.append(trial.number)
    return numbers


def _known(choice: Scalar | None) -> Scalar:
    assert choice is not None
    return choice


def _metrics(result: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in result.items() if name.startswith(("val/", "train/"))}
