"""A space's searched parameters as Optuna's distributions."""

from __future__ import annotations

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from spaces.study import Scalar, Study


def distribution(study: Study, name: str) -> BaseDistribution:
    """What the searched parameter `name` is drawn from."""
    parameter = study.search[name]
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    if study.is_integer(name):
        return IntDistribution(int(parameter.low), int(parameter.high), parameter.log, int(parameter.step or 1))
    return FloatDistribution(parameter.low, parameter.high, parameter.log, parameter.step)


def distributions(study: Study) -> dict[str, BaseDistribution]:
    """All of them by name, in the space's order."""
    return {name: distribution(study, name) for name in study.search}


def suggest(trial: optuna.Trial, study: Study) -> dict[str, Scalar]:
    """A value for every searched parameter whose condition holds, from the sampler of the trial's own study."""
    values: dict[str, Scalar] = {}
    for name, parameter in study.search.items():
        if study.exists(parameter, values):
            values[name] = _suggest(trial, name, distribution(study, name))
    return values


def _suggest(trial: optuna.Trial, name: str, one: BaseDistribution) -> Scalar:
    if isinstance(one, IntDistribution):
        return trial.suggest_int(name, one.low, one.high, step=one.step, log=one.log)
    if isinstance(one, FloatDistribution):
        return trial.suggest_float(name, one.low, one.high, step=one.step, log=one.log)
    assert isinstance(one, CategoricalDistribution)
    value = trial.suggest_categorical(name, one.choices)
    assert value is not None
    return value
