"""Scales of likelihoods, such as a Gaussian's sigma: given, learned, or read off the errors. In units of x, as logarithms.

With a scale too large a decoder need not be good, with one too small the KL term is not heard: it does what a KL weight does,
but is found by maximum likelihood (Rybkin et al. 2021).
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainables.networks.gaussian import smooth_bound

# e^-8 is a twelfth of one of 256 levels, and e^2 a flat density over [0, 1].
LOG_SCALE_LOW, LOG_SCALE_HIGH = -8.0, 2.0
# The standard deviation of natural and of drawn images about their mean is near 0.3.
INITIAL_LOG_SCALE = -1.2
# A parameter moves about one learning rate per step; the scale has some five nats to go.
LEARNED_SCALE_WAY = 10.0
OPTIMAL_SCALE_MOMENTUM = 0.1


def pixel_log_scale(raw: Tensor) -> Tensor:
    """Log-scales that a network gives out, bounded, e^-1.3 where it gives 0; any shape."""
    return smooth_bound(INITIAL_LOG_SCALE + raw, LOG_SCALE_LOW, LOG_SCALE_HIGH)


class Scale(nn.Module):
    """A scale that all pixels share."""

    def log(self, squares: Tensor | None = None) -> Tensor:
        """Log of the scale, a scalar. `squares`: the squared errors of the batch it is for, of any shape."""
        raise NotImplementedError


class FixedScale(Scale):
    """A given number."""

    value: Tensor

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(math.log(scale)), persistent=False)

    def log(self, squares: Tensor | None = None) -> Tensor:
        return self.value


class LearnedScale(Scale):
    """One parameter for all pixels, which the optimizer of the networks trains."""

    def __init__(self) -> None:
        super().__init__()
        self.fraction = nn.Parameter(torch.zeros(()))

    def log(self, squares: Tensor | None = None) -> Tensor:
        return pixel_log_scale(LEARNED_SCALE_WAY * self.fraction)


class OptimalScale(Scale):
    """The batch's own root mean squared error, which is the maximum-likelihood sigma of a Gaussian (Rybkin et al. 2021).

    Only where gradients are taken: evaluation uses a moving average of training's, as held-out images must not choose it.
    """

    gathered = ("mean_square",)
    """Buffers that a training step writes."""
    mean_square: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_square", torch.tensor(math.exp(2 * INITIAL_LOG_SCALE)))

    def log(self, squares: Tensor | None = None) -> Tensor:
        if squares is None or not (self.training and torch.is_grad_enabled()):
            return self._log_scale(self.mean_square)
        # No gradient flows through the optimum: of one sample the likelihood is stationary there.
        total = torch.stack([squares.detach().sum(), squares.new_full((), squares.numel())])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)  # W workers take the sigma of the whole batch
        mean_square = total[0] / total[1]
        # Not `lerp_`, which PyTorch cannot batch over trainings.
        self.mean_square.copy_(self.mean_square.lerp(mean_square.to(self.mean_square.dtype), OPTIMAL_SCALE_MOMENTUM))
        return self._log_scale(mean_square)

    @staticmethod
    def _log_scale(mean_square: Tensor) -> Tensor:
        return 0.5 * mean_square.clamp(math.exp(2 * LOG_SCALE_LOW), math.exp(2 * LOG_SCALE_HIGH)).log()
