"""What the sampler learns from trials that ended at different steps.

Optuna's TPE takes every finished trial for better than any stopped one. But the documents' values run to the end however
bad they are, and the first trial to come to a rung goes on for want of rivals: with a few dozen trials those two are a
large part of what TPE calls good, and it goes on sampling around them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from results.distributions import distributions
from spaces.metrics import Mode
from spaces.seeding import named_seed
from spaces.study import Budget, Study

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Trials that `MODELS` are shown, at most: the best, and an even choice of the others. More of them sharpen nothing that ten
# good ones have to say, and TPE's time grows with each.
SHOWN = 100
GOOD = 10

# Trials before `auto` changes from Gaussian processes, which make the most of few, to TPE, which takes
# milliseconds however many there are. docs/search.md has the measurement.
GP_TRIALS = 100

# Trials at random before the first process is fitted: 5 instead of Optuna's 10 need a tenth less compute (docs/search.md).
GP_STARTUP = 5

# What a space may name as its sampler, besides auto -> the Optuna sampler of one trial, from the study's settings and a seed.
SAMPLERS: dict[str, Callable[[Study, int], BaseSampler]] = {
    "tpe": lambda study, seed: optuna.samplers.TPESampler(seed=seed),
    "random": lambda study, seed: optuna.samplers.RandomSampler(seed=seed),
    "gp": lambda study, seed: _gaussian_process(seed),
    "cmaes": lambda study, seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda study, seed: _Nsga2(seed=seed),
    # It numbers the points of its own order, which must be one for all trials.
    "grid": lambda study, seed: optuna.samplers.GridSampler(study.grid(), seed=study.seed),
}
# Those that fit a model to the trials, and keep nothing with them.
MODELS = ("auto", "tpe", "gp")


def at_levels(curve: dict[int, float], levels: Sequence[int], mode: Mode) -> list[float]:
    """A trial's value, by step in `curve`, at each level: smaller is better, infinite where it has none."""
    sign = 1.0 if mode == "min" else -1.0
    values = (sign * curve.get(level, math.inf * sign) for level in levels)
    return [value if math.isfinite(value) else math.inf for value in values]


def fair_ranks(curves: Sequence[Sequence[float]], reduction_factor: int) -> NDArray[np.int64]:
    """Rank of each trial, 0 the best, as successive halving would rank them had all come to each level together; [trials].

    A trial counts as far as its values are among the best 1/reduction_factor of each level, in order, and is compared with
    the others that count as far by its value at the next level, or at its own last.

    Args:
        curves: [trials, levels], values `at_levels`: the rungs, and the last step.
    """
    if not curves:
        return np.empty(0, dtype=np.int64)
    values = np.array(curves)
    there = np.isfinite(values)
    places = np.maximum(1, there.sum(axis=0) // reduction_factor) - 1
    limits = np.where(
        there.any(axis=0), np.take_along_axis(np.sort(values, axis=0), places[None], axis=0)[0], -math.inf
    )
    reached = np.where(there, np.arange(values.shape[1]), 0).max(axis=1)
    passed = np.minimum(np.cumprod(values <= limits, axis=1).sum(axis=1), reached)
    order = np.lexsort((values[np.arange(len(values)), passed], -passed))
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(len(values))
    return ranks


class _GaussianProcess(optuna.samplers.GPSampler):
    """Optuna's, in two thirds of its time."""

    def _sample_relative_impl(self, *arguments: Any) -> dict[str, Any]:
        # Optuna calls it within `torch.device("cpu")`, a mode in which each of thousands of operations passes through Python.
        import torch

        with torch._C.DisableTorchFunction():
            return super()._sample_relative_impl(*arguments)


def _gaussian_process(seed: int) -> BaseSampler:
    import torch

    # The lanes have the cores; on matrices of a hundred trials more threads take longer, too.
    torch.set_num_threads(1)
    return _GaussianProcess(seed=seed, n_startup_trials=GP_STARTUP, warn_independent_sampling=False)


def sampler_of(space: Study, number: int) -> str:
    """Which of `SAMPLERS` suggests trial `number`."""
    if space.sampler != "auto":
        return space.sampler
    return "tpe" if number > GP_TRIALS or space.further_objectives else "gp"


def rehearse(space: Study, number: int) -> None:
    """Load what the suggestion of trial `number` needs: for Gaussian processes seconds of imports, for which lanes would wait."""
    if sampler_of(space, number) == "gp":
        study = optuna.create_study(sampler=_gaussian_process(seed=0))
        for value in range(GP_STARTUP + 1):
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            study.tell(trial, value)


class _Nsga2(optuna.samplers.NSGAIISampler):
    """Chooses the parents for each trial. Optuna's chooses once and keeps that where a resumed search does not find it."""

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return self.select_parent(study, generation) if generation > 0 else []


@dataclass(frozen=True)
class Experience:
    """Trials of another search, oldest first, and their ranks there, 0 the best, among the `ranked` trials that it had."""

    trials: list[FrozenTrial]
    ranks: list[int]
    ranked: int


@dataclass(frozen=True, slots=True)
class _Ended:
    """A trial that was finished or stopped."""

    values: list[float]
    """At the levels."""
    shown: FrozenTrial | None
    """Itself, as complete; None if today's ranges do not hold it."""


class FairSampler(BaseSampler):
    """The space's sampler, shown every finished or stopped trial as complete, with its fair rank as its value.

    Each trial has a sampler of its own: what is suggested depends on the study and the trial's number alone, and a resumed
    search goes on as if it had never stopped. It serves one study, whose ended trials it keeps. With several objectives,
    where nothing is stopped, trials have their values. Nothing is done after a trial: of these samplers only `grid` does, it
    ends the study, whose trials the driver counts.

    Args:
        space: its sampler, seed and ranges.
        budget: its rungs are the levels of `fair_ranks`.
        experience: what else to learn from.
    """

    def __init__(self, space: Study, budget: Budget, experience: Experience | None = None) -> None:
        self._space = space
        self._levels = (*budget.rungs(), budget.steps)
        self._reduction_factor = budget.reduction_factor
        self._distributions = distributions(space)
        self._within: dict[int, bool] = {}
        """Whether a trial was drawn from today's ranges, by number; a trial's never change."""
        self._ended: dict[int, _Ended] = {}
        """The study's own, by number."""
        self._experience = experience or Experience([], [], 0)
        self._earlier = [self._as_complete(trial) for trial in self._experience.trials]
        self._number: int | None = None
        self._sampler: BaseSampler
        self._view: Any

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        sampler = self._of(study, trial)
        if self._space.sampler not in MODELS or len(study.directions) > 1:
            return sampler.infer_relative_search_space(self._view, trial)
        # What they do themselves, but comparing no distributions: in the view a name has one distribution.
        params = [one.params.keys() for one in self._view.get_trials(states=(TrialState.COMPLETE,))]
        common = set(self._distributions).intersection(*params) if params else ()
        return {name: one for name, one in self._distributions.items() if name in common and not one.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if trial.params:
            return {}  # it was interrupted, and keeps what it has
        return self._of(study, trial).sample_relative(self._view, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(study, trial).sample_independent(self._view, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of(study, trial).before_trial(self._view, trial)

    def _of(self, study: optuna.Study, trial: FrozenTrial) -> BaseSampler:
        """The trial's sampler; with it goes its view of the study, ranked once for all its parameters."""
        if trial.number != self._number:
            self._number, self._sampler = trial.number, self._make(trial.number)
            self._view = self._view_of(study)
        return self._sampler

    def _make(self, number: int) -> BaseSampler:
        name = sampler_of(self._space, number)
        return SAMPLERS[name](self._space, named_seed(self._space.seed, "sampler", number))

    def _view_of(self, study: optuna.Study) -> _View:
        there = study._storage.get_all_trials(study._study_id, deepcopy=False)
        if len(study.directions) > 1:
            return _View(study, [trial for trial in map(self._with_ranges, there) if trial is not None])
        own, others = [], []
        for trial in there:
            if trial.state not in FINISHED:
                others.append(self._with_ranges(trial))
            elif trial.intermediate_values:
                own.append(self._ended.get(trial.number) or self._end(trial))
        ranks = fair_ranks([trial.values for trial in own], self._reduction_factor)
        earlier = np.array(self._experience.ranks)
        shares = np.concatenate([(earlier + 0.5) / max(1, self._experience.ranked), (ranks + 0.5) / max(1, len(ranks))])
        finished = [*self._earlier, *(trial.shown for trial in own)]
        order = np.argsort(shares, kind="stable").tolist()
        if self._space.sampler in MODELS:
            order = _thinned(order)
        sign = 1.0 if self._space.objective.mode == "min" else -1.0
        shown = []
        for index in sorted(order):
            if (fair := finished[index]) is not None:
                fair.values = [sign * shares[index]]
                shown.append(fair)
        return _View(study, [*shown, *(trial for trial in others if trial is not None)])

    def _end(self, trial: FrozenTrial) -> _Ended:
        """Keep what is asked of an ended trial: it changes no more."""
        values = at_levels(trial.intermediate_values, self._levels, self._space.objective.mode)
        ended = self._ended[trial.number] = _Ended(values, self._as_complete(trial))
        return ended

    def _as_complete(self, trial: FrozenTrial) -> FrozenTrial | None:
        fair = self._with_ranges(copy.copy(trial))
        if fair is not None:
            fair.state = TrialState.COMPLETE
        return fair

    def _with_ranges(self, trial: FrozenTrial) -> FrozenTrial | None:
        """A trial as if drawn from today's ranges, or None if they do not hold it."""
        if trial.number not in self._within and trial.params:
            drawn = trial.distributions.items()
            self._within[trial.number] = all(self._distributions.get(name) == one for name, one in drawn)
        if self._within.get(trial.number, False):
            return trial
        now = {name: self._distributions[name] for name in trial.params if name in self._distributions}
        if not all(_holds(one, trial.params[name]) for name, one in now.items()):
            return None
        trial = copy.copy(trial)
        trial.distributions, trial.params = now, {name: trial.params[name] for name in now}
        return trial


def _thinned(order: list[int]) -> list[int]:
    """At most `SHOWN` of a ranking: the `GOOD` first, and an even choice of the others."""
    if len(order) <= SHOWN:
        return order
    others = order[GOOD:]
    return [*order[:GOOD], *(others[i * len(others) // (SHOWN - GOOD)] for i in range(SHOWN - GOOD))]


def _holds(one: BaseDistribution, value: Any) -> bool:
    try:
        return bool(one._contains(one.to_internal_repr(value)))
    except ValueError:
        return False


class _View:
    """A study with other trials than it has."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        self._study, self._trials = study, trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return self.get_trials(deepcopy, states)
