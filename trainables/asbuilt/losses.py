"""The loss of the CVAE of manufactured lenses.

    loss = recon_scale * MSE + kl_weight * KL_free + smooth_weight * smoothness

and, beside it, how well the network knows the size of its errors, which trains nothing else.

A sample is a unit: of T target kernels with E elements each, scores or pixels. Elements are in units in which their mean square
about the mean kernel is one. recon_scale * MSE is, up to a constant, the negative log-likelihood of a Gaussian decoder of
variance T E / (2 recon_scale); where that variance is learned, or the best for each batch, the likelihood takes its place.

Shape legend: B = batch (units), L = latent dimension.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from trainables.asbuilt.trial import AsBuiltTrial
from trainables.psf.losses import gaussian_reconstruction
from trainables.training.losses import Ranks, kl_loss

EXPECTED_ERROR_WEIGHT = 1e-3
"""It trains weights of its own, to which Adam makes it no difference; the gradients' norm, which may be clipped, is not to hear of it."""


class Terms(NamedTuple):
    """What the network computes for a batch, before any weight or reduction."""

    mse: Tensor
    """[B] mean squared error of a unit's targets: relative L2 squared, over the variance of all kernels."""
    kl: Tensor
    """[B, L] nats, KL(q(z given observed) || p(z)) per dimension."""
    smooth: Tensor
    """[B] the same as `mse`, between predictions at neighbouring positions."""
    surprise: Tensor
    """[B] how badly the expected size of errors fits them: the negative log-likelihood of an exponential distribution of that mean, which
    is least if the mean is right, whatever they are distributed like."""
    elements: int
    """T E."""
    logvar: Tensor | None = None
    """Scalar, log of the decoder's variance per element, if it is learned."""


def misfit(squared: Tensor, log_expected: Tensor) -> Tensor:
    """Of squared errors and the logarithms of what they are expected to be, element by element (see `Terms.surprise`)."""
    return squared * (-log_expected).exp() + log_expected


def asbuilt_loss(trial: AsBuiltTrial, terms: Terms, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
    """The minimised sum, `loss`, and its unweighted terms by name; scalars with gradient.

    Args:
        terms: this rank's part of a batch of `trial.batch_size` units.
    """
    mse = ranks.mean(terms.mse, trial.batch_size)
    smooth = ranks.mean(terms.smooth, trial.batch_size)
    penalty, values = kl_loss(trial, terms.kl, kl_weight, ranks)
    reconstruction, variance = gaussian_reconstruction(
        trial.decoder_variance, trial.recon_scale, mse, terms.elements, terms.logvar, ranks
    )
    expected_error = ranks.mean(terms.surprise, trial.batch_size)
    return {
        "loss": reconstruction + penalty + trial.smooth_weight * smooth + EXPECTED_ERROR_WEIGHT * expected_error,
        "mse": mse,
        **values,
        "smooth": smooth,
        "decoder_variance": variance,
        "effective_beta": values["effective_beta"] * variance,
    }
