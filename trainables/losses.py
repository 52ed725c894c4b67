"""Loss terms. One definition for every reduction: KL in nats per sample, MSE per kernel element, smoothness per pair.

    loss = recon_scale * MSE + kl_weight * KL_free + smooth_weight * smoothness

With D = C K K elements, recon_scale * MSE is, up to a constant, the negative log-likelihood of a Gaussian decoder of
standard deviation sqrt(D / (2 recon_scale)), so the weights equal a beta-VAE with unit decoder variance
and summed reductions at beta = `effective_beta` = kl_weight D / (2 recon_scale). Runs of different kernel sizes or
reductions compare by that number only.

Shape legend: B = batch, L = latent dimension, P = neighbour pairs, D = elements of a kernel (all channels).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from spaces.trial import CvaePsfTrial
from trainables.networks import Gaussian


class Terms(NamedTuple):
    """What the model computes for a batch, before any weight or reduction."""

    mse: Tensor
    """[B] mean squared error over each sample's D elements."""
    kl: Tensor
    """[B, L] nats, KL(q(z|K,c) || p(z|c)) per dimension."""
    smooth: Tensor
    """[P] squared distance or nats per neighbour pair."""


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of diagonal Gaussians in nats per dimension, [B, L]."""
    difference = q.logvar - p.logvar
    return 0.5 * (difference.exp() + (q.mu - p.mu).square() * (-p.logvar).exp() - 1.0 - difference)


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


def effective_beta(kl_weight: float, elements: int, recon_scale: float) -> float:
    """The beta of a unit-variance Gaussian decoder with summed reductions."""
    return kl_weight * elements / (2 * recon_scale)


def weighted_loss(terms: Terms, trial: CvaePsfTrial, kl_weight: float, world_size: int = 1) -> dict[str, Tensor]:
    """The minimised sum, `loss`, and its unweighted terms by name; scalars with gradient.

    Args:
        terms: this rank's part of the step's `trial.batch_size` samples and `trial.smooth_pairs` pairs; parts may differ
            in size.

    Every value is this rank's share times `world_size`: their mean over ranks, which is what DDP takes of the gradients,
    is the value of one worker with the whole batch. The KL is reduced before the floor of free bits is applied.
    """
    share = world_size / trial.batch_size
    mse = terms.mse.sum() * share
    smooth = terms.smooth.sum() * (world_size / trial.smooth_pairs)
    kl = terms.kl.sum(dim=0) / trial.batch_size
    if world_size > 1:
        kl = sum_over_ranks(kl)
    kl_free = free_bits(kl, trial.free_bits, trial.free_bits_per)
    loss = trial.recon_scale * mse + kl_weight * kl_free + trial.smooth_weight * smooth
    return {"loss": loss, "mse": mse, "kl": kl.sum(), "kl_free": kl_free, "smooth": smooth}
