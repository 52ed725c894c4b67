"""Tune's searcher over a ledger: the study, on disk, is the one record of every trial.

Ray ships an OptunaSearch; it tells Optuna that stopped trials are complete, leaves NaN trials running for ever and
merges two searches in one storage. This one asks and tells a named study itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.early_stopping import Decision
from search.ledger import Ledger, logger
from search.observer import Observer
from search.sampler import Suggestions, given
from spaces.metrics import best
from spaces.study import Budget, Study
from trainables.lanes.board import HALTS


@dataclass(slots=True)
class _Running:
    number: int
    step: int = 0
    values: list[float] = field(default_factory=list)
    """Of the objectives, at `step`."""
    trained: int = 0
    """Steps that were made: fewer than `step` after a plateau."""
    best: float | None = None
    failure: str | None = None
    seconds: dict[str | None, float] = field(default_factory=dict)
    """Lane time by attempt; None: that of a search that was interrupted."""
    metrics: dict[str, float] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def decide(self, step: int, decision: Decision) -> None:
        """Keep the first decision at each rung, and the one to stop, once: a resumed trial repeats its last report."""
        said = {"step": step, **asdict(decision)}
        passed = any(one["rung"] == decision.rung and one["go_on"] for one in self.decisions)
        if said not in self.decisions and not (decision.go_on and passed):
            self.decisions.append(said)

    def progress(self, lane: str) -> dict[str, Any]:
        """What the study keeps of a trial beside its values."""
        return {
            "step": self.trained,
            "seconds": sum(self.seconds.values()),
            "lane": lane,
            "metrics": self.metrics,
            "decisions": self.decisions,
        }


class StudySearcher(Searcher):  # type: ignore[misc]
    """Asks the ledger for parameters, reports every value to it, and tells it how each trial ended.

    Finished at full budget -> COMPLETE with its best value, that of its `best` checkpoint (of several objectives: with
    its last values); stopped early -> PRUNED with its last step and value; a failure or a non-finite value -> FAIL with
    the reason in the user attribute `failure`. The user attribute `progress` has the lane time, the last report's metrics
    and the decisions of early stopping.

    Args:
        space: what to suggest.
        steps: a full trial's steps.
        observer: told of every event.
        decisions: early stopping's latest on each trial, taken out as they are noted.
        at_once: how many trials can be trained at once now. A trial is suggested when a place is free for it and not earlier,
            so that it is chosen with all that is known by then.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: Study,
        steps: int,
        observer: Observer,
        decisions: dict[int, Decision],
        at_once: Callable[[], float] = lambda: math.inf,
    ) -> None:
        super().__init__(metric=space.objective.metric, mode=space.objective.mode)
        self._ledger = ledger
        self._space = space
        self._steps = steps
        self._observer = observer
        self._decisions = decisions
        self._at_once = at_once
        self._running: dict[str, _Running] = {}
        self.halted: str | None = None
        """Set when the last lane is lost or the disk is full: the reason. Trials it strikes are left to be resumed."""

    def suggest(self, trial_id: str) -> Any:
        """{number, params} of the next trial, None while every place has one, `Searcher.FINISHED` when none is left."""
        if self.halted is not None:
            return Searcher.FINISHED
        # While nothing runs, Tune would sleep over a None; a trial that no lane is left for fails with the reason.
        if self._running and len(self._running) >= self._at_once():
            return None
        number, params = self._ledger.ask()
        running = self._running[trial_id] = _Running(number)
        frozen = self._ledger.trial(number)
        if frozen.intermediate_values:  # interrupted and resumed
            running.step = max(frozen.intermediate_values)
            for value in frozen.intermediate_values.values():
                running.best = self._better(running.best, value)
            progress = frozen.user_attrs["progress"]
            running.trained = progress["step"]
            running.metrics, running.decisions = progress["metrics"], progress["decisions"]
            running.values = self._objectives(running.metrics)
            running.seconds[None] = progress["seconds"]
        self._observer.trial_started(number, params)
        return {"number": number, "params": params}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        running = self._running[trial_id]
        running.seconds[result["attempt"]] = result["seconds"]
        running.failure = running.failure or result["failure"]
        decision = self._decisions.pop(running.number, None)
        if decision is not None and result["step"] < self._steps:
            running.decide(result["step"], decision)
        news = result["failure"] is None and self._take(running, result)
        # Before the report: a search killed in between makes that report again.
        self._ledger.note(running.number, progress=running.progress(result["lane"]))
        if news:
            self._ledger.report(running.number, running.step, running.values[0])
            self._observer.trial_reported(running.number, running.step, running.values[0], running.metrics)

    def _take(self, running: _Running, result: dict[str, Any]) -> bool:
        """Whether a result is a new report and not what a retried trial repeats, nor one that fails the trial."""
        step = result["step"]
        for metric in self._space.watched:
            value = float(result.get(metric, math.nan))
            if not math.isfinite(value):
                running.failure = f"{metric} is {value} at step {step}"
                return False
        if step <= running.step:
            return False
        running.step, running.values = step, self._objectives(result)
        running.trained = result.get("trained", step)
        running.best = self._better(running.best, running.values[0])
        running.metrics = _metrics(result)
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if result is not None:  # a stopped trial's last report comes only here
            self.on_trial_result(trial_id, result)
        running = self._running.pop(trial_id)
        if running.failure and running.failure.startswith(HALTS):
            self.halted = running.failure
            return
        if error:
            running.failure = running.failure or "the trial's process died and its retries with it"
        elif running.failure is None and not running.values:
            running.failure = "ended without a report"
        reason: str | None
        if running.failure:
            self._ledger.note(running.number, failure=running.failure)
            state, values, reason = TrialState.FAIL, None, running.failure
        elif running.step < self._steps:
            state, values = TrialState.PRUNED, None
            reason = running.decisions[-1]["reason"] if running.decisions else None
        else:
            state, reason = TrialState.COMPLETE, None
            assert running.best is not None
            values = [running.best] if len(running.values) == 1 else running.values
        self._ledger.tell(running.number, state, values, self._violations(running))
        value = running.values[0] if running.values else None
        if state is TrialState.COMPLETE and len(running.values) == 1:
            value = running.best  # as told
        self._observer.trial_ended(running.number, state.name, running.step, value, reason)

    def _objectives(self, metrics: dict[str, Any]) -> list[float]:
        return [float(metrics.get(objective.metric, math.nan)) for objective in self._space.objectives]

    def _violations(self, running: _Running) -> dict[str, float]:
        return {
            constraint.metric: constraint.violation(running.metrics[constraint.metric])
            for constraint in self._space.constraints
            if constraint.metric in running.metrics
        }

    def _better(self, so_far: float | None, value: float) -> float:
        return value if so_far is None else best(self._space.objective.mode, (so_far, value))

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes a pickle of its parts when it starts. Nothing reads it, so it need hold nothing."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk, and nothing here is ever unpickled."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search is resumed from its study, not from Tune's files")


def _metrics(result: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in result.items() if name.startswith(("val/", "train/"))}


def open_ledger(
    url: str,
    name: str,
    space: Study,
    budget: Budget,
    earlier: Sequence[FrozenTrial] | None = None,
    said: Callable[[str], None] = logger.warning,
) -> Ledger:
    """The ledger of a run, made on first use with its given first trials: the reference is number 0.

    Args:
        earlier: another search's trials, as `WarmStart.experience` gives them.
        said: as of `Ledger`.
    """
    ledger = Ledger(url, name, space.objectives, Suggestions(space, budget, earlier or ()), said)
    if not ledger.trials:
        for values in space.first_trials()[: budget.trials]:
            ledger.enqueue(given(space, values))
    return ledger
