"""What ends a search before its last trial: time, a target, or no gain to be expected."""

from __future__ import annotations

import math
import time
from typing import Any

import optuna
from optuna.terminator import RegretBoundEvaluator, StaticErrorEvaluator, Terminator
from optuna.trial import FrozenTrial, TrialState
from ray import tune

from search.ledger import DIRECTIONS, Ledger
from search.sampler import FINISHED
from spaces.metrics import Mode, best, better
from spaces.study import Budget

HOUR = 3600.0
LEAST_TRIALS = 20
"""Trials before a gain can be called unlikely (the default of Optuna's terminator)."""


class Limits(tune.Stopper):  # type: ignore[misc]
    """Tune's stopper of a whole search. Trials that run when it strikes are interrupted and wait to be resumed.

    Args:
        budget: its `max_hours` count from now.
        mode: of the objective, the only one if there is a target or a least gain.
    """

    def __init__(self, budget: Budget, mode: Mode, ledger: Ledger) -> None:
        self._deadline = math.inf if budget.max_hours is None else time.monotonic() + HOUR * budget.max_hours
        self._budget, self._mode, self._ledger = budget, mode, ledger
        self._ended = 0
        self.reason: str | None = None
        """Why the search was ended, in words."""

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.reason is None and time.monotonic() > self._deadline:
            self.reason = f"max_hours: {self._budget.max_hours:g} h have passed"
        if self.reason is None and (self._budget.target is not None or self._budget.least_gain is not None):
            trials = [trial for trial in self._ledger.trials if trial.state in FINISHED]
            if len(trials) > self._ended:
                self._ended = len(trials)
                self.reason = self._target(trials) or self._no_gain(trials)
        return self.reason is not None

    def _target(self, trials: list[FrozenTrial]) -> str | None:
        target = self._budget.target
        if target is None:
            return None
        for trial in trials:
            if trial.state is not TrialState.COMPLETE or any(violation > 0 for violation in trial.constraints.values()):
                continue
            if trial.value is not None and not better(self._mode, target, than=trial.value):
                return f"target: trial {trial.number} reached {trial.value:.4g}, {target:.4g} was asked for"
        return None

    def _no_gain(self, trials: list[FrozenTrial]) -> str | None:
        """A stopped trial stands for its configuration with the best value it reached; one from other ranges, for nothing."""
        least = self._budget.least_gain
        if least is None:
            return None
        now = {name: one for trial in trials for name, one in trial.distributions.items()}
        trials = [trial for trial in trials if all(now[name] == one for name, one in trial.distributions.items())]
        if len(trials) < LEAST_TRIALS:
            return None
        values = [best(self._mode, trial.intermediate_values.values()) for trial in trials]
        relative = self._mode == "min" and min(values) > 0
        # Of errors the logarithm, in which a relative gain is a difference, and a bad trial is not a world away.
        scaled = [math.log(value) for value in values] if relative else values
        error = -math.log1p(-least) if relative else least * abs(best(self._mode, values))
        judged = optuna.create_study(direction=DIRECTIONS[self._mode])
        judged.add_trials(
            optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value)
            for trial, value in zip(trials, scaled, strict=True)
        )
        terminator = Terminator(RegretBoundEvaluator(seed=0), StaticErrorEvaluator(error), min_n_trials=LEAST_TRIALS)
        if not terminator.should_terminate(judged):
            return None
        return f"least_gain: a further gain of {100 * least:g} % is not expected (Optuna's terminator)"

    def __getstate__(self) -> dict[str, Any]:
        """As the searcher's: Tune pickles its parts when it starts, and nothing reads that."""
        return {}
