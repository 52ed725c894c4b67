"""What trainings of the CVAE may differ in and still be batched: also the widths of their linear layers.

A narrower network is padded: units with no weights at all, latents without noise that decoder and prior do not hear, frequencies
that nobody listens to, layers that are passed by, and samples that no mean counts. They change nothing of what it computes, and their gradients are dropped.
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
from trainables.training.squared_error import Terms


class CvaePacking(Packing[CvaePsfTrial, CVAE]):
    """Sizes may differ where layers are linear; the KL's mean needs equal latents."""

    def __init__(self) -> None:
        super().__init__(["recon_scale", "smooth_weight", "free_bits"])

    def widths(self, trial: CvaePsfTrial) -> frozenset[str]:
        if trial.network == "conv":
            return frozenset()
        latent = ["latent_dim"] if trial.kl_reduction == "sum" else []
        return frozenset(["hidden_dim", "fourier_bands", "num_layers", "batch_size", *latent])

    def numbers(self, trial: CvaePsfTrial, widest: CVAE) -> dict[str, float | Tensor]:
        found = super().numbers(trial, widest) | {"batch_size": float(trial.batch_size)}
        if trial.free_bits_per == "dimension":  # a padded latent has none
            floors = torch.zeros(widest.config.latent_dim)
            floors[: trial.latent_dim] = trial.free_bits
            found["free_bits"] = floors
        return found

    def widest(self, networks: Sequence[CVAE]) -> CVAE:
        configs = [network.config for network in networks]
        most = {
            name: max(getattr(config, name) for config in configs)
            for name in ("hidden_dim", "latent_dim", "fourier_bands", "num_layers")
        }
        with torch.device("meta"):
            found = CVAE(replace(configs[0], **most))
        if len({config.num_layers for config in configs}) > 1:
            for layers in _layers(found).values():
                layers.used = torch.ones(len(layers) // 2, dtype=torch.bool, device="meta")
        return found

    def names(self, network: CVAE, widest: CVAE) -> dict[str, str]:
        own = super().names(network, widest)
        if network.config.network == "conv":
            return own
        for name, layers in _layers(network).items():
            few, many = len(layers) - 1, len(_layers(widest)[name]) - 1
            for part in ("weight", "bias"):  # the output layer is the last of either
                own[f"{name}.{many}.{part}"] = own.pop(f"{name}.{few}.{part}")
        return own

    def passed_by(self, network: CVAE, widest: CVAE) -> dict[str, Tensor]:
        found = {}
        for name, layers in _layers(widest).items():
            if layers.used is not None:
                count = len(_layers(network)[name]) // 2
                found[f"{name}.used"] = torch.arange(len(layers.used)) < count
        return found

    def present(self, terms: Terms, rows: Tensor) -> Terms:
        return terms._replace(mse=torch.where(rows, terms.mse, 0), kl=torch.where(rows[:, None], terms.kl, 0))

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
        for name, layers in _layers(network).items():
            found |= _of_layers(name, layers, *ends[name], len(_layers(widest)[name]) - 1)
        return found


def _layers(network: CVAE) -> dict[str, MLP]:
    """Its linear networks."""
    return {name: one for name, one in network.named_modules() if isinstance(one, MLP)}


def _code(network: CVAE, widest: CVAE) -> Tensor:
    """Where the encoded condition [E] of few frequencies lies in that of many: coordinates, their sines, their cosines."""
    few, many = network.config.fourier_bands, widest.config.fourier_bands
    coordinates = network.encoding.dim // (1 + 2 * few)
    waves = (torch.arange(coordinates)[:, None] * many + torch.arange(few)).flatten()
    return torch.cat([torch.arange(coordinates), coordinates + waves, coordinates + coordinates * many + waves])


def _of_layers(name: str, layers: MLP, inputs: Tensor, outputs: Tensor, last: int) -> Positions:
    """Of layers whose output layer is number `last` in the widest."""
    found: Positions = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            rows = outputs if layer is layers.head else torch.arange(layer.out_features)
            index = last if layer is layers.head else index
            found[f"{name}.{index}.weight"] = rows, inputs
            found[f"{name}.{index}.bias"] = (rows,)
            inputs = rows
    return found
