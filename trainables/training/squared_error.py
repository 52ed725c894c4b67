"""The loss of models whose decoder errs by a squared error.

    loss = recon_scale * MSE + kl_weight * KL_free + smooth_weight * smoothness

With D elements in a sample, recon_scale * MSE is, up to a constant, the negative log-likelihood of a Gaussian decoder of
variance D / (2 recon_scale); where that variance is learned, or the best for each batch, the likelihood itself takes its
place.

Shape legend: B = batch, L = latent dimension, P = pairs of neighbours, D = elements of a sample.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from trainables.training.losses import Ranks, kl_loss
from trainables.training.squared_error_trial import SquaredErrorTrial

LEAST_VARIANCE = 1e-20
"""Below it the optimal variance's logarithm would run away; float32 rounds kernels to no better than 1e-16."""


class Terms(NamedTuple):
    """What a network computes for a batch, before any weight or reduction."""

    mse: Tensor
    """[B] mean squared error over each sample's D elements."""
    kl: Tensor
    """[B, L] nats, KL of the posterior from the prior per dimension."""
    smooth: Tensor
    """[P] how far neighbours are apart, each pair."""
    elements: int
    """D."""
    logvar: Tensor | None = None
    """Scalar, log of the decoder's variance per element, if it is learned."""


def squared_error_loss(
    trial: SquaredErrorTrial, terms: Terms, pairs: int, kl_weight: float | Tensor, ranks: Ranks
) -> dict[str, Tensor]:
    """The minimised sum, `loss`, and its unweighted terms by name; scalars with gradient.

    `decoder_variance` is that of the Gaussian decoder, per element; `effective_beta` that of trainables/training/losses.py.

    Args:
        terms: this rank's part of a batch of `trial.batch_size` samples and so many `pairs`.
    """
    mse = ranks.mean(terms.mse, trial.batch_size)
    smooth = ranks.mean(terms.smooth, pairs)
    penalty, values = kl_loss(trial, terms.kl, kl_weight, ranks)
    reconstruction, variance = gaussian_reconstruction(
        trial.decoder_variance, trial.recon_scale, mse, terms.elements, terms.logvar, ranks
    )
    return {
        "loss": reconstruction + penalty + trial.smooth_weight * smooth,
        "mse": mse,
        **values,
        "smooth": smooth,
        "decoder_variance": variance,
        "effective_beta": values["effective_beta"] * variance,
    }


def gaussian_reconstruction(
    decoder_variance: Literal["fixed", "learned", "optimal"],
    recon_scale: float | Tensor,
    mse: Tensor,
    elements: int,
    logvar: Tensor | None,
    ranks: Ranks,
) -> tuple[Tensor, Tensor]:
    """The reconstruction term, and the variance per element of the Gaussian decoder that it is of; scalars.

    Args:
        decoder_variance: "fixed" by recon_scale, "learned" as logvar, or "optimal": this batch's own mean squared error.
        mse: this rank's share of it, over samples of so many elements.
    """
    if decoder_variance == "fixed":
        variance = elements / (2 * recon_scale)
        return recon_scale * mse, variance if isinstance(variance, Tensor) else mse.new_full((), variance)
    if decoder_variance == "learned":
        assert logvar is not None
        return gaussian_nll(mse, logvar, elements), logvar.exp()
    variance = ranks.whole(mse).clamp_min(LEAST_VARIANCE)
    return gaussian_nll(variance, variance.log(), elements), variance


def gaussian_nll(mse: Tensor, logvar: Tensor, elements: int) -> Tensor:
    """-log N(K; K_hat, sigma^2) in nats per sample of D elements, without the constant D/2 log(2 pi); a scalar.

    With sigma^2 = MSE it is D/2 (log MSE + 1): the optimal sigma-VAE (Rybkin et al. 2021).
    """
    return 0.5 * elements * (logvar + mse * (-logvar).exp())
