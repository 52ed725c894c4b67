"""Early stopping: asynchronous successive halving (ASHA) with the optimizer step as its unit.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in its stopping variant: at each rung a
trial goes on if it is among the best 1/reduction_factor of the values seen there so far. One thing differs: in the paper a
pass is for good, so a rung's first arrivals, which have few rivals or none, often run to the end of the budget. Here a
trial is judged at its last rung with every later report, against all that have come to that rung meanwhile.

So a decision follows from the values alone that the rungs hold when it is made, in whatever order they came. That is why a
search whose rungs are rebuilt from its study decides as one that was never interrupted.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable

from search.early_stopping import Decision
from spaces.metrics import Mode, sign


class Rungs:
    """The values trials reached at each rung, and the decisions that follow. Knows nothing of Ray.

    Args:
        steps: the rungs, in optimizer steps.
        reduction_factor: one in `reduction_factor` trials goes on.
        mode: "min" if a smaller value is better.
    """

    def __init__(self, steps: Iterable[int], reduction_factor: int, mode: Mode) -> None:
        self._values: dict[int, dict[int, float]] = {step: {} for step in sorted(steps)}
        self._ordered: dict[int, list[float]] = {step: [] for step in self._values}
        """The values at each rung, the best first."""
        self._last: dict[int, int] = {}
        """Trial -> the last rung it came to."""
        self._reduction_factor = reduction_factor
        self._sign = sign(mode)

    def record(self, trial: int, step: int, value: float) -> None:
        """Note a trial's value at a step, if that is a rung. What it repeats there after a retry changes nothing."""
        if step in self._values and math.isfinite(value):
            if trial not in self._values[step]:
                self._values[step][trial] = self._sign * value
                insort(self._ordered[step], self._sign * value)
            self._last[trial] = max(step, self._last.get(trial, step))

    def judge(self, trial: int) -> Decision | None:
        """Whether a trial may go on, by its value at its last rung; None before its first."""
        step = self._last.get(trial)
        if step is None:
            return None
        there = self._values[step]
        better = bisect_left(self._ordered[step], there[trial])
        places = max(1, len(there) // self._reduction_factor)
        return Decision(better < places, step, f"rank {better + 1} of {len(there)} at rung {step}, {places} may go on")
