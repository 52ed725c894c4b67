"""Encoders of small images: [B, C, H, W] in [0, 1] -> q(z|x), a Gaussian with mu and logvar [B, L].

Shape legend: B = batch, C = channel, H, W = pixels, L = latent dimension, w = base width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from trainables.networks.blocks import ResidualBlock, check_size, downsample, linear
from trainables.networks.gaussian import GaussianHead

if TYPE_CHECKING:
    from trainables.networks.vae import VaeConfig

LEVELS = 2
"""Halvings of the convolutional networks: 28 px become 7, 32 px become 8."""


def mlp_encoder(config: VaeConfig) -> nn.Sequential:
    """Two hidden layers of `hidden_dim`."""
    hidden = config.hidden_dim
    return nn.Sequential(
        nn.Flatten(),
        linear(config.channels * config.px**2, hidden),
        nn.SiLU(),
        linear(hidden, hidden),
        nn.SiLU(),
        GaussianHead(hidden, config.latent_dim),
    )


def conv_encoder(config: VaeConfig) -> nn.Sequential:
    """Two halvings to w and 2w channels, then a hidden layer of `hidden_dim`."""
    width, side = config.base_width, check_size(config.px, LEVELS)
    return nn.Sequential(
        downsample(config.channels, width),
        nn.SiLU(),
        downsample(width, 2 * width),
        nn.SiLU(),
        nn.Flatten(),
        linear(2 * width * side**2, config.hidden_dim),
        nn.SiLU(),
        GaussianHead(config.hidden_dim, config.latent_dim),
    )


def resnet_encoder(config: VaeConfig) -> nn.Sequential:
    """As `conv_encoder`, with a residual block after each halving."""
    width, side = config.base_width, check_size(config.px, LEVELS)
    return nn.Sequential(
        downsample(config.channels, width),
        ResidualBlock(width),
        nn.SiLU(),
        downsample(width, 2 * width),
        ResidualBlock(2 * width),
        nn.SiLU(),
        nn.Flatten(),
        linear(2 * width * side**2, config.hidden_dim),
        nn.SiLU(),
        GaussianHead(config.hidden_dim, config.latent_dim),
    )


ENCODERS: dict[str, Callable[[VaeConfig], nn.Module]] = {
    "mlp": mlp_encoder,
    "conv": conv_encoder,
    "resnet": resnet_encoder,
}
