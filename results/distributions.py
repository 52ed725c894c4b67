"""A space's searched parameters as Optuna's distributions."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from spaces.study import Study


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
