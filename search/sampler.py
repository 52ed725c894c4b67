"""What to try next, from the trials so far.

Each suggestion is made by a sampler of Optuna in a study of its own, in memory, which holds the trials as the sampler is to
see them. So it depends on those trials and on the number of the next one alone: a resumed search goes on as if it had never
stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from results.distributions import distributions, suggest
from search.ledger import DIRECTIONS
from search.sobol import SobolSampler
from spaces.metrics import Mode, sign
from spaces.seeding import named_seed
from spaces.study import Budget, Scalar, Study

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# Trials that `MODELS` are shown, at most: the best, and an even choice of the others. More of them sharpen nothing that ten
# good ones have to say, and TPE's time grows with each. As many of those that run, the latest.
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
    "gp": lambda study, seed: optuna.samplers.GPSampler(
        seed=seed, n_startup_trials=GP_STARTUP, warn_independent_sampling=False
    ),
    "cmaes": lambda study, seed: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "nsga2": lambda study, seed: optuna.samplers.NSGAIISampler(seed=seed),
    # These number the points of an order of their own, which must be one for all trials.
    "sobol": lambda study, seed: SobolSampler(study, study.seed),
    "grid": lambda study, seed: optuna.samplers.GridSampler(study.grid(), seed=study.seed),
}
# Those that fit a model to the trials, and keep nothing with them.
MODELS = ("auto", "tpe", "gp")


def at_levels(curve: dict[int, float], levels: Sequence[int], mode: Mode) -> list[float]:
    """A trial's value, by step in `curve`, at each level: smaller is better, infinite where it has none."""
    values = (sign(mode) * curve.get(level, math.nan) for level in levels)
    return [value if math.isfinite(value) else math.inf for value in values]


def fair_ranks(curves: Sequence[Sequence[float]], reduction_factor: int) -> list[int]:
    """Rank of each trial, 0 the best, as successive halving would rank them had all come to each level together.

    A trial counts as far as its values are among the best 1/reduction_factor of each level, in order, and is compared with
    the others that count as far by its value at the next level, or at its own last.

    Args:
        curves: [trials, levels], values `at_levels`: the rungs, and the last step.
    """
    limits = []
    for values in zip(*curves, strict=True):
        there = sorted(value for value in values if math.isfinite(value))
        limits.append(there[max(1, len(there) // reduction_factor) - 1] if there else -math.inf)

    def place(index: int) -> tuple[int, float]:
        curve, passed = curves[index], 0
        while passed + 1 < len(curve) and curve[passed] <= limits[passed] and math.isfinite(curve[passed + 1]):
            passed += 1
        return -passed, curve[passed]

    ranks = [0] * len(curves)
    for rank, index in enumerate(sorted(range(len(curves)), key=place)):
        ranks[index] = rank
    return ranks


def share(rank: int, of: int) -> float:
    """A rank as a share in (0, 1), which compares with those among another number of trials."""
    return (rank + 0.5) / of


def sampler_of(space: Study, number: int) -> str:
    """Which of `SAMPLERS` suggests trial `number`."""
    if space.sampler != "auto":
        return space.sampler
    return "tpe" if number >= GP_TRIALS or space.further_objectives else "gp"


def rehearse(space: Study, number: int) -> None:
    """Load what the suggestion of trial `number` needs: for Gaussian processes seconds of imports, for which lanes would wait."""
    if sampler_of(space, number) == "gp":
        study = optuna.create_study(sampler=SAMPLERS["gp"](space, 0))
        for value in range(GP_STARTUP + 1):
            study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), value)


def given(space: Study, params: dict[str, Scalar]) -> FrozenTrial:
    """A waiting trial with parameters that are not suggested."""
    ranges = distributions(space)
    return create_trial(state=TrialState.WAITING, params=params, distributions={name: ranges[name] for name in params})


class Suggestions:
    """Suggests the next trial, WAITING, from all trials so far.

    The sampler is shown stopped trials as complete, and the fair rank of every ended one as its value. With several objectives,
    where nothing is stopped, trials have their values. Trials that today's ranges do not hold are left out.

    Args:
        space: its sampler, seed and ranges.
        budget: its rungs are the levels of `fair_ranks`.
        earlier: COMPLETE trials of another search to learn from, older than all others, with negative numbers; values are
            `share`s of their ranks there.
    """

    def __init__(self, space: Study, budget: Budget, earlier: Sequence[FrozenTrial] = ()) -> None:
        self._space, self._earlier = space, earlier
        self._levels = (*budget.rungs(), budget.steps)
        self._reduction_factor = budget.reduction_factor
        self._ranges = distributions(space)

    def __call__(self, trials: Sequence[FrozenTrial]) -> FrozenTrial:
        number, values = len(trials), self._values(trials)
        seed = named_seed(self._space.seed, "sampler", number)
        several = [DIRECTIONS[one.mode] for one in self._space.objectives] if self._space.further_objectives else None
        study = optuna.create_study(
            sampler=SAMPLERS[sampler_of(self._space, number)](self._space, seed), directions=several
        )
        unfinished = [trial.number for trial in trials if trial.state not in FINISHED]
        if self._space.sampler in MODELS:
            unfinished = unfinished[-SHOWN:]
        for trial in (*self._earlier, *trials):
            if trial.number in values or trial.number in unfinished:
                with suppress(ValueError):  # today's ranges do not hold it
                    study.add_trial(self._as_seen(trial, values.get(trial.number)))
        suggest(study.ask(), self._space)
        drawn = study.get_trials(deepcopy=False)[-1]
        return create_trial(
            state=TrialState.WAITING,
            params=drawn.params,
            distributions=drawn.distributions,
            system_attrs=drawn.system_attrs,  # what samplers keep with a trial
        )

    def _values(self, trials: Sequence[FrozenTrial]) -> dict[int, list[float]]:
        """By number, the values of those that the sampler is shown as complete. Smaller is better with one objective."""
        if self._space.further_objectives:
            return {trial.number: trial.values for trial in trials if trial.values is not None}
        ended = [trial for trial in trials if trial.state in FINISHED and trial.intermediate_values]
        mode = self._space.objective.mode
        ranks = fair_ranks(
            [at_levels(trial.intermediate_values, self._levels, mode) for trial in ended], self._reduction_factor
        )
        shares = {trial.number: trial.values for trial in self._earlier}
        shares |= {trial.number: [share(rank, len(ended))] for trial, rank in zip(ended, ranks, strict=True)}
        if self._space.sampler not in MODELS:
            return shares
        best_first = sorted(shares, key=lambda number: shares[number])
        others = best_first[GOOD:]
        even = others[:: max(1, math.ceil(len(others) / (SHOWN - GOOD)))]
        return {number: shares[number] for number in (*best_first[:GOOD], *even)}

    def _as_seen(self, trial: FrozenTrial, values: list[float] | None) -> FrozenTrial:
        """A trial with these values, if any, as if it had been drawn from today's ranges. ValueError: they do not hold it."""
        now = {name: one for name, one in self._ranges.items() if name in trial.params}
        return create_trial(
            state=trial.state if values is None else TrialState.COMPLETE,
            values=values,
            params={name: trial.params[name] for name in now},
            distributions=now,
            system_attrs=trial.system_attrs,
        )
