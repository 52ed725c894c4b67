"""What other methods say of how much each hyperparameter matters, beside the Gaussian process of `results.sensitivity`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import optuna

from results.distributions import distributions
from results.records import TrialRecord
from results.sensitivity import inside
from spaces.metrics import sign
from spaces.study import Study

FANOVA, PED_ANOVA = "fANOVA", "PED-ANOVA"
LEAST = {FANOVA: 16, PED_ANOVA: 100}
"""Trials that must have reported at a step. Of 20 random ones fANOVA finds the two that matter most in 0.81 of cases, PED-ANOVA of 80
in 0.75."""
TREES = 64


def second_opinions(trials: Sequence[TrialRecord], study: Study, step: int) -> dict[str, dict[str, float]]:
    """Shares in [0, 1], summing to 1, of the hyperparameters that all trials have, by method.

    fANOVA (Hutter et al. 2014) takes the objective's logarithm where its ratios mean something; PED-ANOVA (Watanabe et al. 2023) its
    ranks. Both see the trials within today's ranges that have reported at `step` alone; a method that they are too few for is left out.
    """
    able = [one for one in trials if inside(one, study)]
    values = {one.number: value for one in able if (value := one.at(step)) is not None}
    metric = study.system.metrics[study.objective.metric]
    if metric.ratio:
        values = {number: math.log(value) for number, value in values.items() if value > 0}
    if len(values) < min(LEAST.values()) or len(set(values.values())) == 1:
        return {}
    ranges = distributions(study)
    copy = _new_study()
    for one in able:
        if one.number in values:
            known = {name: ranges[name] for name in one.params if name in ranges}
            copy.add_trial(
                optuna.trial.create_trial(
                    params={name: one.params[name] for name in known},
                    distributions=known,
                    value=sign(study.objective.mode) * values[one.number],
                )
            )
    found = {}
    for method, least in LEAST.items():
        if len(values) >= least:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                judge = (
                    optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=0)
                    if method == FANOVA
                    else optuna.importance.PedAnovaImportanceEvaluator()
                )
                found[method] = optuna.importance.get_param_importances(copy, evaluator=judge)
    return found


def _new_study() -> optuna.Study:
    """In memory, without a line on standard error that there is one."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study()
    finally:
        optuna.logging.set_verbosity(level)
