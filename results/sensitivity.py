"""How much it matters to choose each hyperparameter well, with an interval.

A Gaussian process of the objective is fitted to all that trials reported at the rungs of early stopping, with the logarithm of the
step as one more input: trials that were stopped early say what they can, and the question is asked at the full budget. Of a metric
whose ratios mean something the process is of its logarithm.

The *effect* of a hyperparameter is how far apart the worst and the best of its values are, on average over the others: a factor of
errors, or a difference of nats or decibels. Its interval is that of the process' posterior, 95 %. The *share* is its total Sobol
index: what of the variance over the space would be left if all others were known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from results.comparison import Interval
from results.formatting import decimals, interval
from results.records import TrialRecord
from results.surrogate import Surrogate
from spaces.metrics import sign
from spaces.study import MIN_TRIALS, Budget, Impact, Parameter, Scalar, Study

MOST_REPORTS = 400
"""The process takes the cube of their number: a few seconds."""
LEVELS: tuple[tuple[float, Impact], ...] = ((2.0, "High"), (1.3, "Medium"), (1.0, "Low"))
"""Least factor between the worst and the best value of a range -> what we call it."""
POINTS, OTHERS, DRAWS, SOBOL = 11, 64, 1000, 512
TAILS = (0.025, 0.975)
FENCE = 3.0
"""Reports this many interquartile ranges above the upper quartile count as lying there: how far a training diverged says nothing."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effect:
    """Of one hyperparameter: its `share` of the variance, the `effect` of choosing it (a factor, or a difference), and the curve.

    `values` are those of the curve, `response` the objective at each, on average over the others (of errors the geometric mean), with its
    interval, `local` the same with the others as the best trial has them. `level` is ours by the factor's interval, None if it does not tell; `label` the source document's.
    """

    name: str
    share: float
    effect: Interval
    level: Impact | None
    label: Impact | None
    values: list[Scalar]
    response: list[Interval]
    local: list[Interval]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Effects, the largest first, at `step` by `trials` trials; none, and a `reason`, where there are too few.

    `ratio`: effects are factors, which is so for metrics whose ratios mean something.
    """

    step: int
    trials: int
    ratio: bool
    effects: list[Effect]
    reason: str | None = None


def sentences(found: Sensitivity, title: str) -> list[str]:
    """What each effect says, in words.

    Args:
        title: of the objective, with its unit.
    """
    if found.reason:
        return [f"Sensitivity: {found.reason}."]
    places = decimals([one.effect for one in found.effects])
    said = [f"Within these ranges, at step {found.step}, on average over the other hyperparameters:"]
    for one in found.effects:
        how = "by a factor of" if found.ratio else "by"
        words = f"choosing {one.name} well changes {title} {how} {interval(one.effect, min(2, places))}"
        label = f"the document says {one.label}" if one.label else "the document does not say"
        ours = f": {one.level or 'not told whether High, Medium or Low'}" if found.ratio else ""
        said.append(f"  {words}{ours}; {label}.")
    return said


def sensitivity(trials: Sequence[TrialRecord], study: Study, budget: Budget) -> Sensitivity:
    """Effects of the searched hyperparameters at the full budget, or at the last rung that enough trials have reached.

    Trials from outside today's ranges, which were edited when the run was resumed, are left out.
    """
    metric = study.system.metrics[study.objective.metric]
    steps = [*budget.rungs(), budget.steps]
    able = [trial for trial in trials if inside(trial, study)]
    reports = [(one, step, value) for one in able for step in steps if (value := one.at(step)) is not None]
    if metric.ratio:
        reports = [one for one in reports if one[2] > 0]
    count = len({trial.number for trial, _, _ in reports})
    if count < MIN_TRIALS:
        reason = f"too few trials: {count} have reported, at least {MIN_TRIALS} are needed"
        return Sensitivity(steps[-1], count, metric.ratio, [], reason)
    if len(reports) > MOST_REPORTS:
        kept = np.random.default_rng(0).permutation(len(reports))[:MOST_REPORTS]
        reports = [reports[place] for place in sorted(kept)]
    full = max(step for step in steps if sum(at == step for _, at, _ in reports) >= min(3, count))
    design = _Design(study, min(steps), full)
    losses = np.array(
        [sign(study.objective.mode) * (math.log(value) if metric.ratio else value) for *_, value in reports]
    )
    low, high = np.quantile(losses, [0.25, 0.75])
    fitted = losses.clip(max=high + FENCE * (high - low))
    if np.ptp(fitted) == 0:
        return Sensitivity(full, count, metric.ratio, [], "all trials reported the same")
    inputs = np.array([design.row(trial.params, step) for trial, step, _ in reports])
    surrogate = Surrogate.of(inputs, fitted, np.array([trial.number for trial, *_ in reports]), design.categorical)
    shares = _total_shares(surrogate, design)
    at_full = [(loss, trial) for loss, (trial, step, _) in zip(losses, reports, strict=True) if step == full]
    best = min(at_full, key=lambda one: one[0])[1].params
    effects = [_effect(name, surrogate, design, best, shares[name], metric.ratio) for name in study.search]
    return Sensitivity(full, count, metric.ratio, sorted(effects, key=lambda one: (-one.share, one.name)))


class _Design:
    """Hyperparameters as points in the unit cube, the logarithm of the step as the last coordinate."""

    def __init__(self, study: Study, first: int, full: int) -> None:
        self.study, self._first, self._full = study, first, full
        self.names = list(study.search)
        chosen = [one.choices is not None for one in study.search.values()]
        self.categorical = np.array([*chosen, False])

    def row(self, values: Mapping[str, Scalar], step: int | None = None) -> list[float]:
        """Coordinates of a trial's values at a step, the full budget if none is given; the middle of what it does not have."""
        span = math.log(self._full / self._first) or 1.0
        at = 1.0 if step is None else math.log(step / self._first) / span
        return [*(_place(one, values[name]) if name in values else 0.5 for name, one in self.study.search.items()), at]

    def values(self, places: Array, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Values at places in [0, 1], but those that are `given`, as far as they exist."""
        found: dict[str, Scalar] = {}
        for name, place in zip(self.names, places, strict=True):
            parameter = self.study.search[name]
            if self.study.exists(parameter, found):
                # Not rounded: of whole numbers the process knows what lies between, too.
                found[name] = given.get(name, parameter.at(float(place), whole=False))
        return found

    def draws(self, count: int, sets: int = 1) -> list[Array]:
        """Scrambled Sobol points of the space, [count, D] in as many independent sets."""
        points = qmc.Sobol(len(self.names) * sets, rng=np.random.default_rng(0)).random(count)
        return np.split(points, sets, axis=1)

    def rows(self, places: Array) -> Array:
        return np.array([self.row(self.values(one, {})) for one in places])


def _place(parameter: Parameter, value: Scalar) -> float:
    if parameter.choices is not None:
        return float(parameter.choices.index(value))
    assert parameter.low is not None
    assert parameter.high is not None
    assert not isinstance(value, str)
    if parameter.low == parameter.high:
        return 0.5
    scale = math.log if parameter.log else float
    return (scale(value) - scale(parameter.low)) / (scale(parameter.high) - scale(parameter.low))


def _effect(
    name: str, surrogate: Surrogate, design: _Design, best: Mapping[str, Scalar], share: float, ratio: bool
) -> Effect:
    unit: Callable[[float], float] = math.exp if ratio else float
    direction = sign(design.study.objective.mode)
    parameter = design.study.search[name]
    values = parameter.values(POINTS, design.study.is_integer(name))
    (places,) = design.draws(OTHERS)
    with_it = [one for one in places if name in design.values(one, {})]
    curves = np.array(
        [[design.row(design.values(one, {name: value})) for one in with_it or places] for value in values]
    )
    mean, draws = _posterior(surrogate, curves)
    spans = np.ptp(draws, axis=1)
    effect = _interval(float(np.median(spans)), spans, unit)

    def along(mean: Array, draws: Array) -> list[Interval]:
        return [
            _interval(float(one), draws[:, place], lambda loss: unit(direction * loss))
            for place, one in enumerate(mean)
        ]

    at_best = _posterior(surrogate, np.array([[design.row({**best, name: value})] for value in values]))
    level = _level(effect) if ratio else None
    return Effect(name, share, effect, level, parameter.impact, values, along(mean, draws), along(*at_best))


def _posterior(surrogate: Surrogate, curves: Array) -> tuple[Array, Array]:
    """Of a curve of means over points [G, Q, D], its posterior mean [G] and draws [DRAWS, G]."""
    mean, covariance = surrogate.averages(curves)
    powers, axes = np.linalg.eigh(covariance)
    noise = np.random.default_rng(0).standard_normal((DRAWS, len(mean)))
    return mean, mean + noise * np.sqrt(powers.clip(0)) @ axes.T


def _interval(mean: float, draws: Array, unit: Callable[[float], float]) -> Interval:
    ends = sorted(unit(float(one)) for one in np.quantile(draws, TAILS))
    return Interval(mean=unit(mean), low=ends[0], high=ends[1])


def _level(factor: Interval) -> Impact | None:
    """What the whole interval says; None where its ends say different things."""
    low, high = (next(level for least, level in LEVELS if end >= least) for end in (factor.low, factor.high))
    return low if low == high else None


def _total_shares(surrogate: Surrogate, design: _Design) -> dict[str, float]:
    """Total Sobol indices of the posterior mean over the space, by Jansen's estimator (1999)."""
    a, b = design.draws(SOBOL, sets=2)
    at_a = surrogate.mean(design.rows(a))
    variance = float(at_a.var())
    found = {}
    for place, name in enumerate(design.names):
        mixed = a.copy()
        mixed[:, place] = b[:, place]
        found[name] = (
            float(np.square(at_a - surrogate.mean(design.rows(mixed))).mean() / 2 / variance) if variance else 0.0
        )
    return found


def inside(trial: TrialRecord, study: Study) -> bool:
    """Whether the study as it is now could suggest the trial's parameters."""
    try:
        for name, value in trial.params.items():
            if name in study.search:
                study.search[name].check(value, name)
    except ValueError:
        return False
    return True
