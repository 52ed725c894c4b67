"""Early stopping by the median rule.

Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2: a trial is stopped if the best
value it has reached is worse than the median of what the others had reached by the same step.
"""

from __future__ import annotations

import math
from statistics import median

from search.early_stopping import Decision
from spaces.metrics import Mode

LEAST_RIVALS = 5
"""Others that must have come as far before a trial is compared with them (the default of Optuna's MedianPruner)."""


class MedianRule:
    """The best value of each trial up to each report step, and the decisions that follow. Knows nothing of Ray.

    Args:
        grace_steps: no trial is stopped earlier.
        mode: "min" if a smaller value is better.
    """

    def __init__(self, grace_steps: int, mode: Mode) -> None:
        self._grace_steps = grace_steps
        self._sign = 1.0 if mode == "min" else -1.0
        self._best: dict[int, dict[int, float]] = {}
        """Step -> trial -> its best value up to that step."""
        self._last: dict[int, int] = {}

    def record(self, trial: int, step: int, value: float) -> None:
        """Note a trial's value at a step; steps of a trial come in rising order."""
        last = self._last.get(trial, 0)
        if step <= last or not math.isfinite(value):
            return
        before = self._best[last][trial] if last else math.inf
        self._best.setdefault(step, {})[trial] = min(before, self._sign * value)
        self._last[trial] = step

    def judge(self, trial: int) -> Decision | None:
        """Whether a trial may go on, by its best value so far; None while it cannot be told."""
        step = self._last.get(trial, 0)
        if step < self._grace_steps:
            return None
        rivals = [value for other, value in self._best[step].items() if other != trial]
        if len(rivals) < LEAST_RIVALS:
            return None
        limit, mine = median(rivals), self._best[step][trial]
        return Decision(
            mine <= limit,
            step,
            f"best {self._sign * mine:.4g} by step {step}, median of {len(rivals)} others {self._sign * limit:.4g}",
        )
