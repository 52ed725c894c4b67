"""The networks of residual bottlenecks of "VAE Implementation Log" (docs/documents.md, 003).

Shape legend: B = batch, C = channel, H, W = pixels, w = base width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.networks.blocks import twice
from trainables.networks.gaussian import GaussianHead
from trainables.networks.norms import group_norm
from trainables.sizes import check_size

if TYPE_CHECKING:
    from trainables.networks.vae import VaeConfig

BOTTLENECK = 4
"""Channels of a block over those of its 3x3 convolution."""


class ConvNormAct(nn.Sequential):
    """SiLU(GroupNorm(convolution(x))); the norm has a bias, so the convolution needs none."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        super().__init__(convolution, group_norm(outputs), nn.SiLU())


class SqueezeExcitation(nn.Module):
    """x times a factor in (0, 1) for each channel, of all channels' means: [B, C, H, W] -> the same (Hu et al. 2018).

    Args:
        ratio: channels over units of the hidden layer, of which there is at least one.
    """

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.squeeze, self.excite = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def factors(self, x: Tensor) -> Tensor:
        """[B, C]."""
        return torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3))))))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors(x)[:, :, None, None]


class ResidualBottleneck(nn.Module):
    """x + layerscale * se(conv1x1(conv3x3(conv1x1(x)))), [B, C, H, W] -> the same.

    Args:
        layerscale: the factor's start, one for each channel (Touvron et al. 2021, "Going deeper with image transformers").
            It scales the gradients of the whole branch too: at 1e-6 they come near Adam's eps of 1e-8.
    """

    def __init__(self, channels: int, se_ratio: int, layerscale: float) -> None:
        super().__init__()
        middle = max(1, channels // BOTTLENECK)
        self.branch = nn.Sequential(
            ConvNormAct(channels, middle, 1),
            ConvNormAct(middle, middle, 3),
            nn.Conv2d(middle, channels, 1),
            SqueezeExcitation(channels, se_ratio),
        )
        self.scale = nn.Parameter(torch.full((channels, 1, 1), layerscale))

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + self.scale * branch


class Downsample(nn.Module):
    """Half the size: [B, inputs, H, W] -> [B, outputs, H/2, W/2].

    A 3x3 convolution of stride 2 beside the mean of 2x2 pixels through a 1x1 one. Norm and activation are in the first path
    alone: without them both together were one convolution.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = ConvNormAct(inputs, outputs, 3, stride=2)
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.main(x) + self.skip(x)
        return halved


class Upsample(nn.Module):
    """Twice the size, bilinear, as `Downsample` halves it: [B, inputs, H, W] -> [B, outputs, 2H, 2W].

    The 1x1 convolution comes before the doubling, with which it commutes, at a quarter of the work.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(twice(), ConvNormAct(inputs, outputs, 3))
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1), twice())

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.main(x) + self.skip(x)
        return doubled


def bottleneck_encoder(config: VaeConfig) -> nn.Sequential:
    """A 3x3 convolution to w channels, `levels` halvings to 2w, 4w, ..., `blocks` blocks after each, a linear head."""
    side, widths = check_size(config.px, config.levels), _widths(config)
    parts: list[nn.Module] = [nn.Conv2d(config.channels, widths[0], 3, padding=1)]
    for before, after in pairwise(widths):
        parts += [Downsample(before, after), *_blocks(config, after)]
    return nn.Sequential(*parts, nn.Flatten(), GaussianHead(widths[-1] * side**2, config.latent_dim))


def bottleneck_decoder(config: VaeConfig, outputs: int) -> nn.Sequential:
    """A linear layer, `blocks` blocks before each doubling, a 3x3 convolution."""
    side, widths = check_size(config.px, config.levels), _widths(config)
    parts: list[nn.Module] = [
        nn.Linear(config.latent_dim, widths[-1] * side**2),
        nn.Unflatten(1, (widths[-1], side, side)),
    ]
    for before, after in pairwise(reversed(widths)):
        parts += [*_blocks(config, before), Upsample(before, after)]
    return nn.Sequential(*parts, nn.Conv2d(widths[0], outputs, 3, padding=1))


def _widths(config: VaeConfig) -> list[int]:
    """Channels before the first halving and after each."""
    return [config.base_width * 2**level for level in range(config.levels + 1)]


def _blocks(config: VaeConfig, channels: int) -> list[nn.Module]:
    return [ResidualBottleneck(channels, config.se_ratio, config.layerscale) for _ in range(config.blocks)]
