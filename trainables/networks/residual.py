"""The residual networks of "VAE Changelog" (docs/documents.md, 002): a latent of [c, 8, 8], whatever the size of the images.

Shape legend: B = batch, C = channel, H, W = pixels, T = tokens, c = channels of the latent, w = base width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.networks.blocks import UPSAMPLINGS, Upsampling, twice
from trainables.networks.gaussian import Gaussian, GaussianHead
from trainables.networks.norms import NORMS, Norm, group_norm
from trainables.sizes import LATENT_SIDE, halvings

if TYPE_CHECKING:
    from trainables.networks.vae import VaeConfig

ATTENTION_SIDE = 16
"""256 tokens: attention of more would cost more than the convolutions."""


SLOPE = 0.2
"""Of the decoder's leaky ReLUs."""


def kaiming(network: nn.Module) -> None:
    """Convolutions whose weights keep the variance through a ReLU, and have no bias at the start (He et al. 2015)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class DownBlock(nn.Module):
    """Half the size: [B, inputs, H, W] -> [B, outputs, H/2, W/2].

    A 4x4 convolution of stride 2 and a 3x3 one, beside the pooled input through a 1x1 one; both paths are normalised, so that neither
    outweighs the other.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        normalised = NORMS[norm]
        self.main = nn.Sequential(
            nn.Conv2d(inputs, outputs, 4, stride=2, padding=1),
            normalised(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            normalised(outputs),
        )
        self.skip = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1), normalised(outputs))
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.skip(x))


class UpBlock(nn.Module):
    """Twice the size: [B, inputs, H, W] -> [B, outputs, 2H, 2W].

    Args:
        upsampling: of the main path; the skip is bilinear, behind its 1x1 convolution, with which it commutes.
        convs: in the main path, the one that doubles the size among them.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, upsampling: Upsampling, convs: int) -> None:
        super().__init__()
        normalised = NORMS[norm]
        main: list[nn.Module] = [UPSAMPLINGS[upsampling](inputs, outputs), normalised(outputs)]
        for _ in range(convs - 1):
            main += [nn.LeakyReLU(SLOPE), nn.Conv2d(outputs, outputs, 3, padding=1), normalised(outputs)]
        self.main = nn.Sequential(*main)
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1), twice(), normalised(outputs))
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.main(x) + self.skip(x), SLOPE)


class SelfAttention(nn.Module):
    """x + projection(attention(norm(x))) over all pixels, [B, C, H, W] -> the same. It starts as the identity.

    One head of scaled dot products, whose scores are never in memory as a whole.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1)
        kaiming(self)
        nn.init.zeros_(self.projection.weight)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).flatten(2).mT[:, None].chunk(3, dim=3)  # [B, 1, T, C] each
        seen = F.scaled_dot_product_attention(query, key, value)[:, 0]  # ONNX has it with a dimension of heads only
        attended: Tensor = self.projection(seen.transpose(1, 2).reshape(x.shape))
        return x + attended


class SpatialHead(nn.Module):
    """A 1x1 `GaussianHead`: [B, C, H, W] -> mu, logvar, each [B, c H W]."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.head = GaussianHead(channels, latent_channels)

    def forward(self, x: Tensor) -> Gaussian:
        found: Gaussian = self.head(x.flatten(2).transpose(1, 2))
        return Gaussian(*(one.transpose(1, 2).flatten(1) for one in found))


def residual_encoder(config: VaeConfig) -> nn.Sequential:
    """Halvings to [.., 8, 8] and w, 2w, 4w, ... channels, attention at 16 x 16 pixels, a 1x1 head."""
    count, parts = halvings(config.px), list[nn.Module]()
    widths = [config.channels, *(config.base_width * 2**level for level in range(count))]
    for level, (before, after) in enumerate(pairwise(widths), start=1):
        parts.append(DownBlock(before, after, config.norm))
        if config.attention and config.px == ATTENTION_SIDE * 2**level:
            parts.append(SelfAttention(after))
    return nn.Sequential(*parts, SpatialHead(widths[-1], _latent_channels(config)))


def residual_decoder(config: VaeConfig, outputs: int) -> nn.Sequential:
    """A 1x1 convolution, doublings from the encoder's widths back to w, attention at 16 x 16 pixels, a 3x3 convolution."""
    count, latents = halvings(config.px), _latent_channels(config)
    widths = [*(config.base_width * 2**level for level in reversed(range(count))), config.base_width]
    first = nn.Conv2d(latents, widths[0], 1)
    kaiming(first)
    parts: list[nn.Module] = [nn.Unflatten(1, (latents, LATENT_SIDE, LATENT_SIDE)), first]
    for level, (before, after) in enumerate(pairwise(widths), start=1):
        parts.append(UpBlock(before, after, config.norm, config.upsampling, config.convs))
        if config.attention and LATENT_SIDE * 2**level == ATTENTION_SIDE:
            parts.append(SelfAttention(after))
    return nn.Sequential(*parts, nn.Conv2d(config.base_width, outputs, 3, padding=1))


def _latent_channels(config: VaeConfig) -> int:
    """c of a latent of c 8 8 numbers."""
    channels, rest = divmod(config.latent_dim, LATENT_SIDE**2)
    assert channels
    assert not rest
    return channels
