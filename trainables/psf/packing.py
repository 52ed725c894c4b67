"""What trainings of the CVAE may differ in and still be batched: also the widths of their linear layers.

A narrower network is padded: units with no weights at all, latents without noise that decoder and prior do not hear, and frequencies
that nobody listens to. They change nothing of what it computes, and their gradients are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.networks.mlp import MLP
from trainables.packing import Packing, Positions
from trainables.psf.cvae import CVAE
from trainables.psf.trial import CvaePsfTrial


class CvaePacking(Packing[CvaePsfTrial, CVAE]):
    """`hidden_dim`, `latent_dim` and `fourier_bands` may differ where layers are linear; the KL's mean needs equal latents."""

    def __init__(self) -> None:
        super().__init__(["recon_scale", "smooth_weight", "free_bits"])

    def widths(self, trial: CvaePsfTrial) -> frozenset[str]:
        if trial.network == "conv":
            return frozenset()
        latent = ["latent_dim"] if trial.kl_reduction == "sum" else []
        return frozenset(["hidden_dim", "fourier_bands", *latent])

    def numbers(self, trial: CvaePsfTrial, widest: CVAE) -> dict[str, float | Tensor]:
        found = super().numbers(trial, widest)
        if trial.free_bits_per == "dimension":  # a padded latent has none
            floors = torch.zeros(widest.config.latent_dim)
            floors[: trial.latent_dim] = trial.free_bits
            found["free_bits"] = floors
        return found

    def widest(self, networks: Sequence[CVAE]) -> CVAE:
        configs = [network.config for network in networks]
        most = {
            name: max(getattr(config, name) for config in configs)
            for name in ("hidden_dim", "latent_dim", "fourier_bands")
        }
        with torch.device("meta"):
            return CVAE(replace(configs[0], **most))

    def positions(self, network: CVAE, widest: CVAE) -> Positions:
        if network.config.network == "conv":  # of equal shape
            return {}
        own, most = network.config, widest.config
        latent = torch.arange(own.latent_dim)
        code = _code(network, widest)
        gaussian = torch.cat([latent, most.latent_dim + latent])  # means, then logarithms of variances
        values = torch.arange(own.components or own.channels * own.kernel_px**2)
        # What goes into each network and comes out.
        ends = {
            "encoder.mlp": (torch.cat([values, len(values) + code]), gaussian),
            "prior_network.mlp": (code, gaussian),
            "decoder": (torch.cat([latent, most.latent_dim + code]), values),
        }
        found: Positions = {}
        for name, (inputs, outputs) in ends.items():
            if hasattr(network, name.split(".")[0]):
                found |= _of_layers(name, network.get_submodule(name), inputs, outputs)
        return found


def _code(network: CVAE, widest: CVAE) -> Tensor:
    """Where the encoded condition [E] of few frequencies lies in that of many: coordinates, their sines, their cosines."""
    few, many = network.config.fourier_bands, widest.config.fourier_bands
    coordinates = network.encoding.dim // (1 + 2 * few)
    waves = (torch.arange(coordinates)[:, None] * many + torch.arange(few)).flatten()
    return torch.cat([torch.arange(coordinates), coordinates + waves, coordinates + coordinates * many + waves])


def _of_layers(name: str, layers: nn.Module, inputs: Tensor, outputs: Tensor) -> Positions:
    assert isinstance(layers, MLP)
    found: Positions = {}
    for index, layer in layers.named_children():
        if isinstance(layer, nn.Linear):
            rows = outputs if layer is layers.head else torch.arange(layer.out_features)
            found[f"{name}.{index}.weight"] = rows, inputs
            found[f"{name}.{index}.bias"] = (rows,)
            inputs = rows
    return found
