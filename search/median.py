"""Early stopping by the median rule, with Optuna's MedianPruner (Golovin et al., "Google Vizier", KDD 2017, section 3.2)."""

from __future__ import annotations

import math

import optuna
from optuna.pruners import MedianPruner
from optuna.trial import TrialState, create_trial

from search.early_stopping import Decision
from search.ledger import DIRECTIONS
from spaces.metrics import Mode, best


class MedianRule:
    """Stops a trial whose best value is worse than the median of what full trials had at that step, if there are five.

    Args:
        grace_steps: no trial is stopped earlier.
        steps: of a full trial.
    """

    def __init__(self, grace_steps: int, steps: int, mode: Mode) -> None:
        self._steps, self._mode = steps, mode
        self._pruner = MedianPruner(n_warmup_steps=grace_steps)
        self._full = optuna.create_study(direction=DIRECTIONS[mode])
        self._values: dict[int, dict[int, float]] = {}
        """Trial -> step -> value."""

    def record(self, trial: int, step: int, value: float) -> None:
        """Note a trial's value at a step; what it repeats after a retry changes nothing."""
        values = self._values.setdefault(trial, {})
        if step in values or not math.isfinite(value):
            return
        values[step] = value
        if step == self._steps:
            self._full.add_trial(create_trial(value=value, intermediate_values=values))

    def judge(self, trial: int) -> Decision | None:
        """The decision to stop a trial; None while it may go on."""
        values = self._values.get(trial)
        if not values or not self._pruner.prune(
            self._full, create_trial(state=TrialState.RUNNING, intermediate_values=values)
        ):
            return None
        step, reached = max(values), best(self._mode, values.values())
        full = len(self._full.get_trials(deepcopy=False))
        return Decision(False, step, f"best {reached:.4g} by step {step}, worse than the median of {full} full trials")
