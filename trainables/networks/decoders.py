"""Decoders of small images: z [N, L] -> a likelihood's parameters [N, P C, H, W]. Each mirrors its encoder.

Shape legend: N = latents, L = latent dimension, P = parameters per channel, C = channel, H, W = pixels, w = base width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from trainables.networks.blocks import ResidualBlock, linear, upsample
from trainables.networks.bottleneck import bottleneck_decoder
from trainables.networks.residual import residual_decoder
from trainables.sizes import check_size

if TYPE_CHECKING:
    from trainables.networks.vae import VaeConfig


def mlp_decoder(config: VaeConfig, outputs: int) -> nn.Sequential:
    """Two hidden layers of `hidden_dim`."""
    hidden = config.hidden_dim
    return nn.Sequential(
        linear(config.latent_dim, hidden),
        nn.SiLU(),
        linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, outputs * config.px**2),
        nn.Unflatten(1, (outputs, config.px, config.px)),
    )


def conv_decoder(config: VaeConfig, outputs: int) -> nn.Sequential:
    """A hidden layer of `hidden_dim`, then `levels` doublings from ..., 4w, 2w and w channels."""
    return _doubling(config, outputs, lambda width: [])


def resnet_decoder(config: VaeConfig, outputs: int) -> nn.Sequential:
    """As `conv_decoder`, with a residual block before each doubling."""
    return _doubling(config, outputs, lambda width: [ResidualBlock(width)])


def _doubling(config: VaeConfig, outputs: int, blocks: Callable[[int], list[nn.Module]]) -> nn.Sequential:
    side, widths = check_size(config.px, config.levels), [outputs, *config.widths]
    parts: list[nn.Module] = [
        linear(config.latent_dim, config.hidden_dim),
        nn.SiLU(),
        linear(config.hidden_dim, widths[-1] * side**2),
        nn.Unflatten(1, (widths[-1], side, side)),
    ]
    for after, width in reversed(list(pairwise(widths))):
        parts += [*blocks(width), nn.SiLU(), upsample(width, after)]
    return nn.Sequential(*parts)


DECODERS: dict[str, Callable[[VaeConfig, int], nn.Module]] = {
    "mlp": mlp_decoder,
    "conv": conv_decoder,
    "resnet": resnet_decoder,
    "residual": residual_decoder,
    "bottleneck": bottleneck_decoder,
}
"""The second argument is P C."""
