"""The convolutional encoder and decoder of "Integration Roadmap for New VAE Model", with what the document leaves out.

Its skeleton's heads take 256 features where four halvings of 64 px leave 4,096, and its decoder ends at 32 px with 32 channels.
Here is a linear layer in front of the decoder, a fourth doubling and a last convolution: 3,937,635 parameters at the document's
sizes.

Shape legend: B = batch, C = channel, K = kernel side in pixels, L = latent dimension, w = base width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from trainables.networks.blocks import check_size
from trainables.networks.gaussian import GaussianHead

LEVELS = 4
Norm = Literal["batch", "group", "none"]
Upsampling = Literal["transposed3", "transposed4", "bilinear"]

NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,  # with several workers each normalises by its own part of a batch
    "group": lambda channels: nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels),
    "none": lambda channels: nn.Identity(),
}
UPSAMPLINGS: dict[Upsampling, Callable[[int, int], nn.Module]] = {
    # The document's. Its outputs have 1, 2, 1, 2 ... taps along a side: a checkerboard to be unlearned (Odena et al. 2016).
    "transposed3": lambda i, o: nn.ConvTranspose2d(i, o, 3, stride=2, padding=1, output_padding=1),
    "transposed4": lambda i, o: nn.ConvTranspose2d(i, o, 4, stride=2, padding=1),
    "bilinear": lambda i, o: nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(i, o, 3, padding=1)
    ),
}


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
