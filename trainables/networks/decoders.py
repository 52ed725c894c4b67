"""Decoders of small images: z [N, L] -> a likelihood's parameters [N, P C, H, W]. Each mirrors its encoder.

Shape legend: N = latents, L = latent dimension, P = parameters per channel, C = channel, H, W = pixels, w = base width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from trainables.networks.blocks import ResidualBlock, check_size, linear, upsample
from trainables.networks.encoders import LEVELS

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
    """A hidden layer of `hidden_dim`, then two doublings from 2w and w channels."""
    width, side = config.base_width, check_size(config.px, LEVELS)
    return nn.Sequential(
        linear(config.latent_dim, config.hidden_dim),
        nn.SiLU(),
        linear(config.hidden_dim, 2 * width * side**2),
        nn.SiLU(),
        nn.Unflatten(1, (2 * width, side, side)),
        upsample(2 * width, width),
        nn.SiLU(),
        upsample(width, outputs),
    )


def resnet_decoder(config: VaeConfig, outputs: int) -> nn.Sequential:
    """As `conv_decoder`, with a residual block before each doubling."""
    width, side = config.base_width, check_size(config.px, LEVELS)
    return nn.Sequential(
        linear(config.latent_dim, config.hidden_dim),
        nn.SiLU(),
        linear(config.hidden_dim, 2 * width * side**2),
        nn.Unflatten(1, (2 * width, side, side)),
        ResidualBlock(2 * width),
        nn.SiLU(),
        upsample(2 * width, width),
        ResidualBlock(width),
        nn.SiLU(),
        upsample(width, outputs),
    )


DECODERS: dict[str, Callable[[VaeConfig, int], nn.Module]] = {
    "mlp": mlp_decoder,
    "conv": conv_decoder,
    "resnet": resnet_decoder,
}
"""The second argument is P C."""
