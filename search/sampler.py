"""What the sampler learns from trials that ended at different steps.

Optuna's TPE takes every finished trial for better than any stopped one. But the documents' values run to the end however
bad they are, and the first trial to come to a rung goes on for want of rivals: with a few dozen trials those two are a
large part of what TPE calls good, and it goes on sampling around them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def fair_ranks(
    curves: Sequence[dict[int, float]], levels: Sequence[int], reduction_factor: int, mode: Literal["min", "max"]
) -> list[int]:
    """Rank of each trial, 0 the best, as successive halving would rank them had all come to each level together.

    A trial counts as far as its values are among the best 1/reduction_factor of each level, in order, and is compared with
    the others that count as far by its value at the next level, or at its own last.

    Args:
        curves: the value of each trial by step.
        levels: the rungs, and the last step.
    """
    sign = 1.0 if mode == "min" else -1.0
    values = [[sign * curve[level] if level in curve else math.inf for level in levels] for curve in curves]
    limits = []
    for column in zip(*values, strict=True):
        there = sorted(value for value in column if math.isfinite(value))
        limits.append(there[max(1, len(there) // reduction_factor) - 1] if there else -math.inf)

    def key(row: list[float]) -> tuple[int, float]:
        reached = max((level for level, value in enumerate(row) if math.isfinite(value)), default=0)
        passed = 0
        while passed < reached and row[passed] <= limits[passed]:
            passed += 1
        return -passed, row[passed]

    ranks = [0] * len(values)
    for rank, index in enumerate(sorted(range(len(values)), key=lambda index: key(values[index]))):
        ranks[index] = rank
    return ranks


class FairSampler(BaseSampler):
    """Any Optuna sampler, shown every finished or stopped trial as complete, with its fair rank as its value.

    Each trial has a sampler of its own: what is suggested depends on the study and the trial's number alone, and a resumed
    search goes on as if it had never stopped.

    Args:
        make: the sampler of a trial's number; for one objective, told values of which only the order counts.
        levels, reduction_factor: of the early stopping, as for `fair_ranks`.
    """

    def __init__(self, make: Callable[[int], BaseSampler], levels: Sequence[int], reduction_factor: int) -> None:
        self._make = make
        self._levels = tuple(levels)
        self._reduction_factor = reduction_factor
        self._sampler = make(0)
        self._number: int | None = None
        self._view: Any = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(study, trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(study, trial).sample_relative(self._view, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(study, trial).sample_independent(self._view, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(study, trial).before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)

    def _of(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        """The trial's sampler; with it goes its view of the study, ranked once for all its parameters."""
        if trial.number != self._number:
            self._sampler, self._number = self._make(trial.number), trial.number
            self._view = _FairStudy(study, self._levels, self._reduction_factor)
        return self._sampler


class _FairStudy:
    """A study whose finished and stopped trials read as complete, their fair ranks as values."""

    def __init__(self, study: optuna.Study, levels: Sequence[int], reduction_factor: int) -> None:
        self._study = study
        mode: Literal["min", "max"] = "min" if study.direction == optuna.study.StudyDirection.MINIMIZE else "max"
        trials = study._get_trials(deepcopy=False, states=FINISHED, use_cache=True)
        ranks = fair_ranks([trial.intermediate_values for trial in trials], levels, reduction_factor, mode)
        sign = 1.0 if mode == "min" else -1.0
        self._values = {trial.number: sign * rank for trial, rank in zip(trials, ranks, strict=True)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        asked = [*TrialState] if states is None else [state for state in TrialState if state in states]
        if TrialState.COMPLETE in asked:
            asked = [*{*asked, *FINISHED}]
        else:
            asked = [state for state in asked if state is not TrialState.PRUNED]
        trials = self._study._get_trials(deepcopy=False, states=tuple(asked), use_cache=use_cache)
        return [self._as_complete(trial) if trial.number in self._values else trial for trial in trials]

    def _as_complete(self, trial: FrozenTrial) -> FrozenTrial:
        fair = copy.copy(trial)
        fair.state, fair.values = TrialState.COMPLETE, [self._values[trial.number]]
        return fair
