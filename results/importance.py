"""Importance of each hyperparameter, honest about early stopping and about chance.

Trials of an ASHA search end at different steps, so their last values cannot be compared and the few full trials are
too few. Every trial reaches the first rung, though: importance is computed there, on all trials that reported at that
step, with PED-ANOVA (Watanabe et al., IJCAI 2023), which depends on the objective only through its ranks. It measures
how differently a parameter is distributed among the best trials and among all of them.

With a few dozen trials a parameter without any effect still gets some importance. The same computation on shuffled
objectives says how much: `p` is the share of shuffles that give a parameter at least its measured importance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from results.distributions import distribution
from results.records import TrialRecord
from spaces.metrics import sign
from spaces.study import Study

# Fewer trials leave under four in the upper half that PED-ANOVA compares with the whole.
MIN_TRIALS = 8
# PED-ANOVA wants five trials in its upper quantile (Optuna's documentation).
TOP_TRIALS = 5
SHUFFLES = 99
# Shuffled importances this often reach a real one by chance: what lies above is not told apart from noise.
CLEAR = 0.05


@dataclass(frozen=True, slots=True)
class ParameterImportance:
    """`share` of all importance (they sum to 1), `p` against chance, and the source document's label."""

    name: str
    share: float
    p: float
    label: str | None

    @property
    def clear(self) -> bool:
        return self.p <= CLEAR


@dataclass(frozen=True, slots=True)
class Importance:
    """Importances, the largest first, at `step` over `trials` trials; empty with `reason` when there are too few."""

    step: int
    trials: int
    top: int
    parameters: list[ParameterImportance]
    reason: str | None = None


def importance(trials: Sequence[TrialRecord], study: Study, step: int) -> Importance:
    """Importance of the searched parameters at `step`, the first rung, which every trial reports at.

    Trials from outside today's ranges, which were edited when the run was resumed, are left out.
    """
    values = {
        trial.number: value for trial in trials if (value := trial.at(step)) is not None and _inside(trial, study)
    }
    if len(values) < MIN_TRIALS:
        reason = f"too few trials: {len(values)} reported at step {step}, at least {MIN_TRIALS} are needed"
        return Importance(step, len(values), 0, [], reason)
    reached = [trial for trial in trials if trial.number in values]
    losses = [sign(study.objective.mode) * values[trial.number] for trial in reached]
    ranks = np.argsort(np.argsort(losses, kind="stable"))
    copy = _in_memory(reached, study)
    quantile = max(0.1, min(0.5, TOP_TRIALS / len(reached)))
    measured = _ped_anova(copy, ranks, quantile)
    rng = np.random.default_rng(0)
    chance = [_ped_anova(copy, rng.permutation(ranks), quantile) for _ in range(SHUFFLES)]
    total = sum(measured.values())
    found = []
    for name, value in measured.items():
        as_large = sum(shuffled[name] >= value for shuffled in chance)
        share = value / total if total > 0 else 0.0
        found.append(ParameterImportance(name, share, (1 + as_large) / (1 + SHUFFLES), study.search[name].impact))
    found.sort(key=lambda one: (-one.share, one.name))
    return Importance(step, len(reached), math.ceil(quantile * len(reached)), found)


def _inside(trial: TrialRecord, study: Study) -> bool:
    """Whether the study as it is now could suggest the trial's parameters."""
    try:
        for name, value in trial.params.items():
            if name in study.search:
                study.search[name].check(value, name)
    except ValueError:
        return False
    return True


def _in_memory(trials: Sequence[TrialRecord], study: Study) -> optuna.Study:
    """The trials, renumbered from 0 and all COMPLETE; parameters that the space does not search are left out."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    copy = optuna.create_study()
    optuna.logging.set_verbosity(verbosity)
    for trial in trials:
        params = {name: value for name, value in trial.params.items() if name in study.search}
        distributions = {name: distribution(study, name) for name in params}
        copy.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=0.0))
    return copy


def _ped_anova(study: optuna.Study, ranks: np.ndarray, quantile: float) -> dict[str, float]:
    """Raw importance by parameter; `ranks[trial]` is 0 for the best trial."""
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that a `target` is minimised, which ranks are
        return evaluator.evaluate(study, target=lambda trial: float(ranks[trial.number]))
