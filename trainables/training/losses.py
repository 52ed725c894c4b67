"""Loss terms that all systems share. One definition for every reduction: KL in nats per sample.

    loss = reconstruction + kl_weight * KL_free + the system's own terms

`effective_beta` is the beta of the same VAE with all terms in nats: of a reconstruction that is a likelihood it is the KL's
weight, of a squared error that weight times the variance which the error stands for. Runs of different sizes or reductions
compare by that number only.

Shape legend: B = batch, L = latent dimension, P = pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from spaces.trial import Trial


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


@dataclass(frozen=True, slots=True)
class Ranks:
    """Reductions over a batch of which each of `size` workers has a part; parts may differ in size.

    A `mean` is this rank's share times `size`: the mean over ranks, which is what DDP takes of the gradients, is the value of
    one worker with the whole batch. What enters a non-linear function must be summed over ranks first: `whole`, `whole_mean`.
    """

    size: int = 1

    def mean(self, values: Tensor, count: int) -> Tensor:
        """Of this rank's part [b] of `count` values, its share of their mean; a scalar."""
        return values.sum() * (self.size / count)

    def whole(self, share: Tensor) -> Tensor:
        """The mean that `mean` gives a share of; the same on every rank."""
        return sum_over_ranks(share / self.size) if self.size > 1 else share

    def whole_mean(self, values: Tensor, count: int) -> Tensor:
        """Of this rank's part [b, ...] of `count` values, the mean of all; the same on every rank."""
        part = values.sum(dim=0) / count
        return sum_over_ranks(part) if self.size > 1 else part


def kl_loss(trial: Trial, kl: Tensor, kl_weight: float | Tensor, ranks: Ranks) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted KL term, and the numbers that go with it.

    Args:
        kl: this rank's part [b, L] of KL(q || p) in nats, of a batch of `trial.batch_size` samples.
        kl_weight: at this step.

    Returns:
        What is added to the reconstruction term; `kl` and `kl_free` in nats per sample, and `effective_beta`, the latter's weight,
        which is what its name says where the reconstruction is a likelihood.
    """
    means = ranks.whole_mean(kl, trial.batch_size)
    penalised = free_bits(means, trial.free_bits, trial.free_bits_per)
    weight = kl_weight / kl.shape[1] if trial.kl_reduction == "mean" else kl_weight
    beta = weight if isinstance(weight, Tensor) else means.new_full((), weight)
    return weight * penalised, {"kl": means.sum(), "kl_free": penalised, "effective_beta": beta}
