"""Normalisation of feature maps.

Shape legend: B = batch, C = channel, H, W = pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainables.networks.gaussian import at_least_float32
from trainables.training.losses import sum_over_ranks

Norm = Literal["batch", "group", "none"]

CHANNELS_PER_GROUP = 8
MOST_GROUPS = 32


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm whose statistics are those of the whole batch, however many workers share it: [B, C, H, W] -> the same.

    PyTorch's own takes a worker's part alone, and its SyncBatchNorm needs a GPU. Parts may differ in size, and one may be empty.
    """

    gathered = ("running_mean", "running_var", "num_batches_tracked")
    """Buffers that a training step writes."""
    alone = False
    """Forward passes are this process' own: the other workers make none."""

    def forward(self, input: Tensor) -> Tensor:  # PyTorch's name
        shared = self.training and not self.alone and dist.is_available() and dist.is_initialized()
        return self._over_ranks(input) if shared and dist.get_world_size() > 1 else super().forward(input)

    def _over_ranks(self, x: Tensor) -> Tensor:
        values, part = at_least_float32(x), x.numel() // self.num_features
        total = sum_over_ranks(torch.cat([values.sum(dim=(0, 2, 3)), values.new_tensor([part])]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - mean[:, None, None]
        # The mean first: a difference of squares would lose the digits that a small variance is of.
        variance = sum_over_ranks(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


def has_statistics(network: nn.Module) -> bool:
    """Whether a network normalises by what it has gathered of its batches."""
    return any(isinstance(module, BatchNorm) for module in network.modules())


@contextmanager
def measuring(network: nn.Module) -> Iterator[None]:
    """Forward passes in here measure a network's statistics anew, in this process alone: each pass has the same weight."""
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    was, momenta = network.training, [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.alone = None, True  # PyTorch's way to say "the mean of all"
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.alone = momentum, False
        network.train(was)


def group_norm(channels: int) -> nn.GroupNorm:
    """Groups of eight channels, or of more where these were above 32 groups; one group where channels do not divide."""
    groups = max(1, min(MOST_GROUPS, channels // CHANNELS_PER_GROUP))
    return nn.GroupNorm(groups if channels % groups == 0 else 1, channels)


NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": BatchNorm,
    "group": group_norm,
    "none": lambda channels: nn.Identity(),
}
"""Each takes the number of channels."""
