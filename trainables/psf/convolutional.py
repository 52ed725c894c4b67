"""The convolutional encoder and decoder of "Integration Roadmap for New VAE Model", with what the document leaves out.

Its skeleton's heads take 256 features where four halvings of 64 px leave 4,096, and its decoder ends at 32 px with 32 channels.
Here is a linear layer in front of the decoder, a fourth doubling and a last convolution: 3,937,635 parameters at the document's
sizes.

Shape legend: B = batch, C = channel, K = kernel side in pixels, L = latent dimension, w = base width.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from trainables.networks.blocks import UPSAMPLINGS, Upsampling
from trainables.networks.gaussian import GaussianHead
from trainables.networks.norms import NORMS, Norm
from trainables.sizes import check_size

LEVELS = 4


class ConvEncoder(nn.Sequential):
    """q(z|K): four halvings to 8w channels, then the Gaussian's head; [B, C, K, K] -> mu, logvar, each [B, L].

    Raises:
        ValueError: K is no multiple of 16.
    """

    def __init__(self, channels: int, kernel_px: int, width: int, norm: Norm, latent_dim: int) -> None:
        side = check_size(kernel_px, LEVELS)
        widths = [channels, *(width * 2**level for level in range(LEVELS))]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), NORMS[norm](after), nn.LeakyReLU()]
        super().__init__(*layers, nn.Flatten(), GaussianHead(widths[-1] * side**2, latent_dim))


class ConvDecoder(nn.Sequential):
    """A linear layer, four doublings from 8w to w channels and a 3x3 convolution; [B, inputs] -> [B, C, K, K], any sign."""

    def __init__(
        self, inputs: int, channels: int, kernel_px: int, width: int, norm: Norm, upsampling: Upsampling
    ) -> None:
        side = check_size(kernel_px, LEVELS)
        widths = [*(width * 2**level for level in reversed(range(LEVELS))), width]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [UPSAMPLINGS[upsampling](before, after), NORMS[norm](after), nn.LeakyReLU()]
        super().__init__(
            nn.Linear(inputs, widths[0] * side**2),
            nn.Unflatten(1, (widths[0], side, side)),
            *layers,
            nn.Conv2d(width, channels, 3, padding=1),
        )

    @property
    def head(self) -> nn.Conv2d:
        """The output layer."""
        head = self[-1]
        assert isinstance(head, nn.Conv2d)
        return head

    def forward(self, inputs: Tensor) -> Tensor:
        raw: Tensor = super().forward(inputs)
        return raw
