"""Loss terms. One definition for every reduction: KL in nats per sample, MSE per kernel element, smoothness per pair.

    loss = recon_scale * MSE + kl_weight * KL_free + smooth_weight * smoothness

With D = C K K elements, recon_scale * MSE is, up to a constant, the negative log-likelihood of a Gaussian decoder of
variance D / (2 recon_scale); where that variance is learned, or the best for each batch, the likelihood itself takes its
place. Either way the weights equal a beta-VAE with unit decoder variance and summed reductions at
beta = `effective_beta` = kl_weight * variance. Runs of different kernel sizes or reductions compare by that number only.

Shape legend: B = batch, L = latent dimension, P = neighbour pairs, D = elements of a kernel (all channels).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from spaces.trial import CvaePsfTrial

LEAST_VARIANCE = 1e-20
"""Below it the optimal variance's logarithm would run away; float32 rounds kernels to no better than 1e-16."""


class Terms(NamedTuple):
    """What the model computes for a batch, before any weight or reduction."""

    mse: Tensor
    """[B] mean squared error over each sample's D elements."""
    kl: Tensor
    """[B, L] nats, KL(q(z|K,c) || p(z|c)) per dimension."""
    smooth: Tensor
    """[P] squared distance or nats per neighbour pair."""
    logvar: Tensor | None = None
    """Scalar, log of the decoder's variance per element, if it is learned."""


def free_bits(kl: Tensor, floor: float, per: Literal["dimension", "sample"]) -> Tensor:
    """KL in nats per sample of which `floor` nats, per dimension or in total, are not penalised; a scalar.

    Args:
        kl: [L] batch mean of the KL per dimension.

    The floor applies to the batch mean (Kingma et al. 2016, appendix C.8), so a dimension whose mean lies above it is
    penalised for every sample. A clamp on each element would switch single elements off instead.
    """
    return kl.clamp_min(floor).sum() if per == "dimension" else kl.sum().clamp_min(floor)


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """||a_i - b_i||^2 summed over all but the first dimension, [P, ...] -> [P]."""
    return (a - b).flatten(1).square().sum(dim=1)


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum over the process group, differentiable; the same on every rank."""
    total: Tensor = _SumOverRanks.apply(values)
    return total


def weighted_loss(
    terms: Terms, trial: CvaePsfTrial, kl_weight: float | Tensor, elements: int, world_size: int = 1
) -> dict[str, Tensor]:
    """The minimised sum, `loss`, and its unweighted terms by name; scalars with gradient.

    `decoder_variance` is that of the Gaussian decoder, per element; `effective_beta` that of the module's description.

    Args:
        terms: this rank's part of a batch of `trial.batch_size` samples and `trial.smooth_pairs` pairs; parts may differ
            in size.
        elements: D.

    Every value is this rank's share times `world_size`: their mean over ranks, which is what DDP takes of the gradients,
    is the value of one worker with the whole batch. What enters a non-linear function, the KL before the floor of free bits
    and the squared error of the optimal variance, is summed over ranks first.
    """
    mse = terms.mse.sum() * (world_size / trial.batch_size)
    smooth = terms.smooth.sum() * (world_size / trial.smooth_pairs)
    kl = terms.kl.sum(dim=0) / trial.batch_size
    if world_size > 1:
        kl = sum_over_ranks(kl)
    kl_free = free_bits(kl, trial.free_bits, trial.free_bits_per)
    weight = kl_weight / trial.latent_dim if trial.kl_reduction == "mean" else kl_weight

    if trial.decoder_variance == "fixed":
        reconstruction, variance = trial.recon_scale * mse, mse.new_full((), elements / (2 * trial.recon_scale))
    elif trial.decoder_variance == "learned":
        assert terms.logvar is not None
        reconstruction, variance = gaussian_nll(mse, terms.logvar, elements), terms.logvar.exp()
    else:
        variance = (sum_over_ranks(mse / world_size) if world_size > 1 else mse).clamp_min(LEAST_VARIANCE)
        reconstruction = gaussian_nll(variance, variance.log(), elements)
    return {
        "loss": reconstruction + weight * kl_free + trial.smooth_weight * smooth,
        "mse": mse,
        "kl": kl.sum(),
        "kl_free": kl_free,
        "smooth": smooth,
        "decoder_variance": variance,
        "effective_beta": weight * variance,
    }


def gaussian_nll(mse: Tensor, logvar: Tensor, elements: int) -> Tensor:
    """-log N(K; K_hat, sigma^2) in nats per sample of D elements, without the constant D/2 log(2 pi); a scalar.

    With sigma^2 = MSE it is D/2 (log MSE + 1): the optimal sigma-VAE (Rybkin et al. 2021).
    """
    return 0.5 * elements * (logvar + mse * (-logvar).exp())
