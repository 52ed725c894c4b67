"""Early stopping as Tune knows it: a scheduler around a rule that knows nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.asha import Rungs
from search.early_stopping import Decision, Rule
from search.median import MedianRule
from spaces.metrics import Mode
from spaces.study import Budget, Study

CONTINUE: str = TrialScheduler.CONTINUE
STOP: str = TrialScheduler.STOP

# What a space may name as its scheduler.
RULES: dict[str, Callable[[Budget, Mode], Rule | None]] = {
    "asha": lambda budget, mode: Rungs(budget.rungs(), budget.reduction_factor, mode),
    "median": lambda budget, mode: MedianRule(budget.grace_steps, budget.steps, mode),
    "none": lambda budget, mode: None,
}


def rule(study: Study, budget: Budget) -> Rule | None:
    """The rule of a study; None stops nothing."""
    return RULES[study.scheduler](budget, study.objective.mode)


class EarlyStopping(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduler: stops a trial when a watched metric is not finite, and when the rule says so.

    `decisions` has each running trial's latest, for the searcher.

    Args:
        rule: None stops nothing.
        watched: metrics that must be finite; the first is the objective.
        exempt: trials that are ranked but never stopped (the reference, which all others are compared with).
    """

    def __init__(self, rule: Rule | None, watched: Sequence[str], exempt: Iterable[int] = ()) -> None:
        super().__init__()
        self._rule = rule
        self._objective, self._watched = watched[0], watched
        self._exempt = frozenset(exempt)
        self.decisions: dict[int, Decision] = {}

    def replay(self, trial: int, values: Mapping[int, float]) -> None:
        """Take over what a trial had reported before this search was resumed: step -> objective."""
        for step, value in sorted(values.items()):
            if self._rule is not None:
                self._rule.record(trial, step, value)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        value = result.get(self._objective)
        if result.get("failure") or value is None:
            return CONTINUE  # it ends by itself
        if not all(math.isfinite(result.get(metric, math.nan)) for metric in self._watched):
            return STOP
        if self._rule is None:
            return CONTINUE
        number = trial.config["number"]
        self._rule.record(number, result["step"], value)
        if number in self._exempt or (decision := self._rule.judge(number)) is None:
            return CONTINUE
        self.decisions[number] = decision
        return CONTINUE if decision.go_on else STOP
