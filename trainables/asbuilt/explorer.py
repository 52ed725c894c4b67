"""What the explorer of a report shows of units: some sealed ones, fitted to a few of their PSFs, and units by sliders.

Shape legend: U = units shown, H = held-out positions, G = mirror images of a unit, L = latent dimension, S = sliders.
"""

from __future__ import annotations

from typing import Any

import torch

from deeplens_workers.asbuilt_data import AsBuiltData
from spaces.explorer import Explorer
from trainables.asbuilt.basis import FLIPS
from trainables.asbuilt.data import AsBuiltTest, observed
from trainables.asbuilt.evaluation import GIVEN
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.simplex import FAINT
from trainables.learner import evaluating
from trainables.networks.described import described
from trainables.psf.explorer import SLIDERS, as_array, code, field_facts
from trainables.psf.metrics import relative_l2

UNITS = 4


def asbuilt_explorer(model: AsBuiltCVAE, test: AsBuiltTest, data: AsBuiltData) -> Explorer:
    """The first test units, each as `GIVEN` of its PSFs say, and what the population's main directions do to a unit."""
    units = test.units.some(slice(UNITS))
    seen, away = observed(units, GIVEN), units.held_out
    with evaluating(model):
        latents = model.known(seen.kernels, seen.points).mu
        fitted = model.decode_images(latents, away.points)
        error = relative_l2(fitted.flatten(0, 1), away.kernels.flatten(0, 1)).unflatten(0, fitted.shape[:2])
        origin = model.unit(torch.zeros(1, model.config.latent_dim))[0]
        # The population's principal directions, of standard deviation 1, the longest first.
        directions = model.unit(torch.eye(model.config.latent_dim)) - origin
        directions = directions[directions.norm(dim=1).argsort(descending=True)[:SLIDERS]]
    shown = {"true": away.kernels, "points": away.points, "error": error, "latents": latents}
    arrays = {**shown, "origin": origin, "directions": directions}
    sets = [
        {"title": f"test unit {index + 1}, of which {GIVEN} PSFs were seen", "true": True, "latent": index}
        for index in range(len(units))
    ]
    description = {
        **field_facts(data, model.config.diopter_ranges),
        "model": plain_model(model),
        "sets": [*sets, {"title": "a unit by the sliders", "true": False}],
        "sliders": [f"direction {index + 1}" for index in range(len(directions))],
        "origin": "the mean of the factory's units",
    }
    return Explorer("field", description, {name: as_array(one) for name, one in arrays.items()})


def plain_model(model: AsBuiltCVAE) -> dict[str, Any]:
    """The decoder, which averages what a unit's mirror images say, for `results/explorer/network.js`."""
    config = model.config
    shape = [config.channels, config.kernel_px, config.kernel_px]
    decoder, pixels = described(model.decoder, "decoder"), config.network == "mlp"
    clean = {"op": "clean_kernels", "faint": FAINT}
    if pixels:
        output = [{"op": "shape", "shape": shape}, clean]
        decoder += [{"op": "softplus_kernels", "shape": shape}, {"op": "unit_norm"}]
    else:
        weights = {"mean": "mean", "components": "components"}
        scores = {"op": "expand", "channels": config.channels, "mirrored": False, "spread": float(model.spread[0])}
        output = [{**scores, "weights": weights}, clean]
    return {
        "code": code(config.diopter_ranges, config.fourier_bands),
        "latent": config.latent_dim,
        "prior": None,
        "inputs": ["z", "code", "outer"],
        "decoder": decoder,
        "mirrors": {
            "flips": FLIPS[: config.flips].tolist(),
            "pixels": pixels,
            "weights": {} if pixels else {"signs": "signs"},
        },
        "output": output,
        "shape": shape,
    }
