"""The graphs of a VAE of images: latents -> mean images, and images -> posteriors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.networks.vae import VAE
from trainables.onnx_file import Graph, Port


class _Decoder(nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.generate(z)


class _Encoder(nn.Module):
    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model.encode(images)
        return found.mu, found.logvar


def image_graphs(model: VAE) -> dict[str, Graph]:
    """`decoder`: `z` [N, L] -> `images` [N, C, H, W] in [0, 1]; `encoder`: such images -> `mu` and `logvar` [N, L]."""
    config = model.config
    shape = (config.channels, config.px, config.px)
    images = f"[N, {', '.join(map(str, shape))}] float32 in [0, 1]"
    facts = {"network": config.network, "likelihood": config.likelihood, "latent_dim": str(config.latent_dim)}
    latents = f"[N, {config.latent_dim}] float32"
    return {
        "decoder": Graph(
            _Decoder(model),
            inputs=(
                (Port("z", ("N",), f"{latents}, standard normal under the prior"), torch.zeros(2, config.latent_dim)),
            ),
            outputs=(Port("images", ("N",), f"{images}: the mean of each pixel"),),
            title="Decoder of a variational autoencoder of images",
            facts=facts,
        ),
        "encoder": Graph(
            _Encoder(model),
            inputs=((Port("images", ("N",), images), torch.full((2, *shape), 0.5)),),
            outputs=(
                Port("mu", ("N",), f"{latents}: mean of the posterior"),
                Port("logvar", ("N",), f"{latents}: log of its variance"),
            ),
            title="Encoder of a variational autoencoder of images",
            facts=facts,
        ),
    }
