"""A Gaussian process of a function of hyperparameters, and what follows from it exactly: means over the others, with their covariance.

    y_i = f(x_i) + t_trial(i) + noise,   f ~ GP(0, v k),   k of Matern's kind (5/2) with a length scale for each input

What a trial's seed adds to all of its reports is a term of its own, t, so that several reports of one trial do not pass for several
trials. Length scales and variances are those of the highest posterior density, under log-normal priors that take an input for
unimportant until data say otherwise (Hvarfner et al. 2024: length scales grow with the root of the number of inputs).

Shape legend: N = observations, D = inputs, M = points, G = points of a curve, Q = points of the other inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import minimize

Array = NDArray[np.float64]

ROOT5 = 5**0.5
LENGTHS = (-0.5, 1.0)
"""Mean, for one input, and spread of the prior of a length scale's logarithm; half the logarithm of their number is added."""
VARIANCES = ((0.0, 1.0), (-5.0, 1.5), (-5.0, 1.5))
"""The same of the variances of f, of trials and of noise, where y has variance 1."""
JITTER = 1e-8
STARTS = (-1.0, 0.0)
"""Of the length scales' logarithms, in spreads from their priors' means."""


@dataclass(frozen=True)
class Surrogate:
    """The posterior of f given observations.

    `inputs` [N, D] lie in [0, 1]; those that are `categorical` [D] are 0 or 1 apart. `lengths` [D] are in the same unit, `variance` in
    units of `spread`^2, where `offset` and `spread` are the mean and standard deviation of the observed values.
    """

    inputs: Array
    categorical: NDArray[np.bool_]
    lengths: Array
    variance: float
    offset: float
    spread: float
    _factor: Any
    _weights: Array

    @classmethod
    def of(cls, inputs: Array, values: Array, trials: NDArray[np.int_], categorical: NDArray[np.bool_]) -> Surrogate:
        """Fitted to values [N] at inputs [N, D], of which those with an equal number in `trials` [N] are of one trial.

        Raises:
            ValueError: fewer than three values, or all of them equal.
        """
        spread = float(values.std()) if len(values) > 2 else 0.0
        if spread == 0:
            raise ValueError(f"needed are three values that are not all equal, but got {len(values)}")
        offset = float(values.mean())
        y, same = (values - offset) / spread, (trials[:, None] == trials[None]).astype(float)
        apart = _apart(inputs, inputs, categorical)
        count = inputs.shape[1]
        prior = np.array([(LENGTHS[0] + np.log(count) / 2, LENGTHS[1])] * count + list(VARIANCES))
        fits = [
            minimize(
                _loss,
                prior[:, 0] + start * prior[:, 1] * (np.arange(len(prior)) < count),
                args=(apart, same, y, prior),
                jac=True,
                method="L-BFGS-B",
                bounds=[(mean - 4 * wide, mean + 4 * wide) for mean, wide in prior],
            )
            for start in STARTS
        ]
        best = min(fits, key=lambda fit: float(fit.fun)).x
        lengths, (variance, of_trial, noise) = np.exp(best[:count]), np.exp(best[count:])
        covariance = variance * _matern(_distance(apart, lengths)) + of_trial * same
        factor = cho_factor(covariance + (noise + JITTER) * np.eye(len(y)), lower=True)
        return cls(inputs, categorical, lengths, float(variance), offset, spread, factor, cho_solve(factor, y))

    def mean(self, points: Array) -> Array:
        """E f [M] at points [M, D]."""
        return self.offset + self.spread * (self._kernel(points, self.inputs) @ self._weights)

    def averages(self, curves: Array) -> tuple[Array, Array]:
        """Of the means of f over Q points each, `curves` [G, Q, D]: their posterior mean [G] and covariance [G, G].

        A mean is linear in f, so its posterior is a Gaussian that is known exactly.
        """
        count, others, _ = curves.shape
        points = curves.reshape(count * others, -1)
        cross = self._kernel(points, self.inputs).reshape(count, others, -1).mean(axis=1)
        prior = np.stack([self._kernel(one, points).mean(axis=0).reshape(count, others).mean(axis=1) for one in curves])
        covariance = prior - cross @ cho_solve(self._factor, cross.T)
        mean = self.offset + self.spread * (cross @ self._weights)
        return mean, self.spread**2 * (covariance + covariance.T) / 2

    def _kernel(self, a: Array, b: Array) -> Array:
        return self.variance * _matern(_distance(_apart(a, b, self.categorical), self.lengths))


def _apart(a: Array, b: Array, categorical: NDArray[np.bool_]) -> Array:
    """Squared distances along each input, [D, A, B] of points [A, D] and [B, D]."""
    squared = np.square(a.T[:, :, None] - b.T[:, None, :])
    squared[categorical] = squared[categorical] > 0
    return squared


def _distance(apart: Array, lengths: Array) -> Array:
    distance: Array = np.sqrt(np.tensordot(lengths**-2.0, apart, axes=1))
    return distance


def _matern(distance: Array) -> Array:
    scaled = ROOT5 * distance
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def _loss(logs: Array, apart: Array, same: Array, y: Array, prior: Array) -> tuple[float, Array]:
    """Negative log posterior density of the logarithms of lengths and variances, without constants, and its gradient."""
    count = len(apart)
    lengths, (variance, of_trial, noise) = np.exp(logs[:count]), np.exp(logs[count:])
    distance = _distance(apart, lengths)
    matern, identity = _matern(distance), np.eye(len(y))
    try:
        factor = cho_factor(variance * matern + of_trial * same + (noise + JITTER) * identity, lower=True)
    except LinAlgError:
        return 1e10, np.zeros_like(logs)
    weights, inverse = cho_solve(factor, y), cho_solve(factor, identity)
    slope = inverse - np.outer(weights, weights)  # twice the derivative by the covariance
    # d matern / d log length_i = 5/3 (1 + sqrt(5) r) exp(-sqrt(5) r) apart_i / length_i^2
    common = slope * (5 / 3 * variance * (1 + ROOT5 * distance) * np.exp(-ROOT5 * distance))
    by_length = np.tensordot(apart, common, axes=2) / lengths**2
    by_variance = [(slope * part).sum() for part in (variance * matern, of_trial * same, noise * identity)]
    away = (logs - prior[:, 0]) / prior[:, 1]
    log_determinant = 2 * np.log(np.diag(factor[0])).sum()
    loss = (y @ weights + log_determinant + away @ away) / 2
    return float(loss), np.concatenate([by_length, by_variance]) / 2 + away / prior[:, 1]
