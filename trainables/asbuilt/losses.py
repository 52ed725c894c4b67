"""The loss of the CVAE of manufactured lenses: the squared error's, and how well the network knows the size of its errors.

The latter trains weights of its own and nothing else. A sample is a unit: of T target kernels with E elements each, scores or
pixels, in units in which their mean square about the mean kernel is one.

Shape legend: B = batch (units).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from trainables.asbuilt.trial import AsBuiltTrial
from trainables.training import squared_error
from trainables.training.losses import Ranks
from trainables.training.squared_error import squared_error_loss

EXPECTED_ERROR_WEIGHT = 1e-3
"""It trains weights of its own, to which Adam makes it no difference; the gradients' norm, which may be clipped, is not to hear of it."""


class Terms(NamedTuple):
    """What the network computes for a batch, before any weight or reduction."""

    of_units: squared_error.Terms
    """Of D = T E elements; the smoothness [B] is the squared error between predictions at neighbouring positions."""
    surprise: Tensor
    """[B] how badly the expected size of errors fits them: the negative log-likelihood of an exponential distribution of that mean, which
    is least if the mean is right, whatever they are distributed like."""


def misfit(squared: Tensor, log_expected: Tensor) -> Tensor:
    """Of squared errors and the logarithms of what they are expected to be, element by element (see `Terms.surprise`)."""
    return squared * (-log_expected).exp() + log_expected


def asbuilt_loss(trial: AsBuiltTrial, terms: Terms, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
    """The minimised sum, `loss`, and its unweighted terms by name; scalars with gradient.

    Args:
        terms: this rank's part of a batch of `trial.batch_size` units.
    """
    values = squared_error_loss(trial, terms.of_units, trial.batch_size, kl_weight, ranks)
    surprise = ranks.mean(terms.surprise, trial.batch_size)
    return {**values, "loss": values["loss"] + EXPECTED_ERROR_WEIGHT * surprise}
