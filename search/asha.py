"""Early stopping: asynchronous successive halving (ASHA) with the optimizer step as its unit.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in its stopping variant: at each rung a
trial goes on if it is among the best 1/reduction_factor of the values seen there so far. One thing differs: a rung's first
arrivals have no rivals, and in the paper the best of them goes on for good, often to the end of the budget. Here such a
pass is provisional: with each later report the trial is judged at that rung again, until reduction_factor values are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

CONTINUE: str = TrialScheduler.CONTINUE
STOP: str = TrialScheduler.STOP


class Rungs:
    """The values trials reached at each rung, and the decisions that follow. Knows nothing of Ray.

    Args:
        steps: the rungs, in optimizer steps.
        reduction_factor: one in so many trials goes on.
        mode: "min" if a smaller value is better.
        exempt: trials that are never stopped (the documents' values, which the winner is compared with at full budget).
    """

    def __init__(
        self, steps: Iterable[int], reduction_factor: int, mode: Literal["min", "max"], exempt: Iterable[int] = ()
    ) -> None:
        self._values: dict[int, dict[int, float]] = {step: {} for step in steps}
        self._provisional: dict[int, int] = {}
        """Trial -> the rung it passed before it had rivals."""
        self._reduction_factor = reduction_factor
        self._sign = 1.0 if mode == "min" else -1.0
        self._exempt = frozenset(exempt)

    def record(self, trial: int, step: int, value: float) -> bool:
        """Note a trial's value at a step; True if it may go on.

        Between rungs every trial goes on whose last pass is not provisional. The same trial's second report at a rung (after a retry) is judged by its
        first value; a non-finite value ends the trial and is not ranked.
        """
        if not math.isfinite(value):
            return False
        if step in self._values:
            self._values[step].setdefault(trial, self._sign * value)
            self._provisional[trial] = step
        if trial in self._exempt or trial not in self._provisional:
            return True
        rung = self._values[self._provisional[trial]]
        better = sum(other < rung[trial] for other in rung.values())
        if len(rung) >= self._reduction_factor:
            del self._provisional[trial]
        return better < max(1, len(rung) // self._reduction_factor)


class Asha(FIFOScheduler):  # type: ignore[misc]
    """Tune's side of `Rungs`: trials are known by their study number, time by their step."""

    def __init__(self, rungs: Rungs, metric: str) -> None:
        super().__init__()
        self._rungs = rungs
        self._objective = metric

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result.get("failure"):
            return CONTINUE  # it ends by itself
        return CONTINUE if self._rungs.record(trial.config["number"], result["step"], result[self._objective]) else STOP
