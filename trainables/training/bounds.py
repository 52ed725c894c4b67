"""Lower bounds on log p(x) in nats from importance weights, log w = log p(x, z) - log q(z|x) at z ~ q(z|x).

Shape legend: B = batch, K = samples of z per image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def elbo(log_weights: Tensor) -> Tensor:
    """Evidence lower bound, the mean of log w: [B, K] -> [B]."""
    return log_weights.mean(dim=1)


def iwae(log_weights: Tensor) -> Tensor:
    """Importance-weighted bound, log of the mean of w: [B, K] -> [B] (Burda et al. 2016). With K = 1 it is the ELBO.

    Its gradient is the mean of the log-weights' gradients, weighted by the normalised weights, which carry none themselves.
    """
    return log_weights.logsumexp(dim=1) - math.log(log_weights.shape[1])


class StreamedIwae:
    """`iwae` of log-weights that come in chunks of samples, so that few decoded images are in memory at a time."""

    def __init__(self) -> None:
        self._log_sum: Tensor | None = None
        self._samples = 0

    def add(self, log_weights: Tensor) -> None:
        """More samples [B, K] of the same images."""
        chunk = log_weights.logsumexp(dim=1)
        self._log_sum = chunk if self._log_sum is None else torch.logaddexp(self._log_sum, chunk)
        self._samples += log_weights.shape[1]

    def value(self) -> Tensor:
        """The bound so far, [B].

        Raises:
            ValueError: nothing was added.
        """
        if self._log_sum is None:
            raise ValueError("no log-weights were added")
        return self._log_sum - math.log(self._samples)
