"""The posterior of a unit's z given any number of its PSFs, in any order.

Shape legend: B = units, n = observed kernels of a unit, R = components, E = encoded position, D = width, L = latent dimension.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainables.networks.gaussian import LOGVAR_LIMIT, GaussianHead, at_least_float32, smooth_bound
from trainables.networks.mlp import MLP

QUERIES = 8
"""Learned questions of attention, each with its own weights over the observed kernels."""


class Attention(nn.Module):
    """Each of the learned queries takes its own weighted mean: [B, n, D] -> [B, D'] (Lee et al. 2019, Set Transformer).

    A query's key is a linear map of it, so query and key together are one linear map of a kernel's features to a weight. That map
    and the one to values are the last layer of what makes the features: D is D' values and the weights' logits.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.each = -(-width // QUERIES)
        self.dim = QUERIES * self.each
        self.features = self.dim + QUERIES

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        values, logits = at_least_float32(features).split([self.dim, QUERIES], dim=-1)
        weights = logits.masked_fill(~present[..., None], -torch.inf).softmax(dim=1)
        pooled: Tensor = (weights[..., None] * values.unflatten(-1, (QUERIES, self.each))).sum(dim=1).flatten(1)
        return pooled


class Mean(nn.Module):
    """The mean of those present: [B, n, D] -> [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dim = self.features = width

    def forward(self, features: Tensor, present: Tensor) -> Tensor:
        weights = present.to(torch.float32)
        return torch.einsum("bn,bnd->bd", weights / weights.sum(dim=1, keepdim=True), at_least_float32(features))


class SetEncoder(nn.Module):
    """q(z given observed): an MLP of each kernel with its position, pooled, and an MLP of that and of how many there were.

    Beside it stands what q cannot say. Its variance is what the decoder bears, not what there is to be known: it hardly depends on
    how many kernels are seen. `log_variance` is of z given *all* of a unit's kernels, about the mu of q given those seen.
    """

    def __init__(
        self,
        components: int,
        code: int,
        hidden: int,
        layers: int,
        latent_dim: int,
        pooling: Literal["mean", "attention"],
    ) -> None:
        super().__init__()
        self.pooling: Mean | Attention = Mean(hidden) if pooling == "mean" else Attention(hidden)
        self.each = MLP((components, code), hidden, layers, self.pooling.features)
        self.together = MLP((self.pooling.dim, 2), hidden, 1, hidden)
        self.head = GaussianHead(hidden, latent_dim)
        self.variance = MLP((hidden,), hidden, 1, latent_dim)

    def forward(self, scores: Tensor, code: Tensor) -> Tensor:
        """Features of each kernel alone [B, n, D], of scores [B, n, R] and encoded positions [B, n, E]."""
        found: Tensor = self.each(torch.cat([scores, code], dim=-1))
        return found

    def of_set(self, features: Tensor, present: Tensor) -> Tensor:
        """Features of each unit's set [B, D], which `head` makes q of.

        Args:
            present: [B, n] bool, at least one of each unit: the others count for nothing.
        """
        pooled = self.pooling(features, present)
        count = present.sum(dim=1, keepdim=True).to(pooled)
        found: Tensor = self.together(torch.cat([pooled, count.log(), 1 / count], dim=1))
        return found

    def log_variance(self, of_set: Tensor) -> Tensor:
        """Of z given all kernels about the mu of features [B, D]: [B, L]. It trains nothing but itself."""
        return smooth_bound(at_least_float32(self.variance(of_set.detach())), -LOGVAR_LIMIT, LOGVAR_LIMIT)
