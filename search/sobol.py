"""Points that fill a space evenly, one for each trial, however the trials before it went."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from spaces.study import Scalar, Study


class SobolSampler(BaseSampler):
    """Trial n has the n-th point of a scrambled Sobol sequence (Owen 1997), counted from the first that is not given.

    Optuna's QMCSampler draws choices and conditional parameters at random; here each parameter has an axis of its own.
    """

    def __init__(self, space: Study, seed: int) -> None:
        self._space, self._seed = space, seed
        self._axes = {name: axis for axis, name in enumerate(space.search)}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Scalar:
        place = max(0, trial.number - len(self._space.first_trials()))
        points = qmc.Sobol(len(self._axes), rng=self._seed)
        if place:  # SciPy cannot go forward by none
            points.fast_forward(place)
        (point,) = points.random(1)
        return self._space.search[param_name].at(
            float(point[self._axes[param_name]]), self._space.is_integer(param_name)
        )
