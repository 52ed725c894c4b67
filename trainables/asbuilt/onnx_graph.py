"""The graph of a model of units: latents and field points -> kernels. A unit's own graph is that of its `psf_model()`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deeplens_workers.kernel_optics import KernelOptics
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.onnx_file import Graph, Port
from trainables.psf.onnx_graph import graph_facts, kernels_meaning, points_meaning


class _Decoder(nn.Module):
    mean: Tensor
    factor: Tensor

    def __init__(self, model: AsBuiltCVAE) -> None:
        super().__init__()
        self.model = model
        # `unit` is affine; ONNX has no eigenvectors.
        mean = model.unit(torch.zeros(1, model.config.latent_dim))
        self.register_buffer("mean", mean)
        self.register_buffer("factor", model.unit(torch.eye(model.config.latent_dim)) - mean)

    def forward(self, z: Tensor, points: Tensor) -> Tensor:
        return self.model.decode(self.mean + z @ self.factor, points)


def units_graph(model: AsBuiltCVAE, optics: KernelOptics) -> Graph:
    """`z` [B, L] standard normal, `points` [B, M, d] -> `kernels` [B, M, C, K, K]: units as a factory makes them."""
    one = torch.tensor([0.0, 0.5, *(distances[0] for distances in optics.varied.values())])
    latent = model.config.latent_dim
    return Graph(
        _Decoder(model),
        inputs=(
            (Port("z", ("B",), f"[B, {latent}] float32: a unit each, drawn from N(0, I)"), torch.zeros(2, latent)),
            (Port("points", ("B", "M"), points_meaning(optics, "B, M")), one.repeat(2, 3, 1)),
        ),
        outputs=(Port("kernels", ("B", "M"), kernels_meaning(optics, "B, M")),),
        title=f"Point spread functions of units of {optics.lens} as a factory makes them",
        facts=graph_facts(optics, encoder="not in this file: a unit with measured PSFs has a file of its own"),
    )
