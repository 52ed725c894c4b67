"""What the explorer of a report shows of a model of kernels: the model as plain layers, and held-out kernels.

Shape legend: N = held-out points, d = condition dimension, C = channel, K = kernel side in pixels, L = latent dimension,
S = latent dimensions that have a slider.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplens_workers.lens_data import LensData
from spaces.explorer import MOST_NUMBERS, Explorer, Layer
from trainables.learner import evaluating
from trainables.networks.described import described
from trainables.psf.cvae import CVAE
from trainables.psf.data import PsfSplit
from trainables.psf.metrics import predict, relative_l2

MOST_POINTS, MOST_PIXELS = 400, 2_500_000
"""Held-out kernels in a page, and their pixels, of 2 bytes each."""
SLIDERS = 6
TRIED_AT = 8
"""Points at which latent dimensions are moved to see which tell most."""
GRID_SIDE, DISTANCES, GRID_PIXELS = 13, 3, 4_000_000
"""Levels of x and y, at most, and of each distance, at which a model that is too large for a page has its kernels there; and their pixels."""


def psf_explorer(model: CVAE, test: PsfSplit, data: LensData) -> Explorer:
    """Of a model of one lens, at the test set's points from the first on."""
    pixels = test.kernels[0].numel()
    count = min(MOST_POINTS, max(1, MOST_PIXELS // pixels))
    points, true = test.points[:count], test.kernels[:count]
    with evaluating(model):
        error = relative_l2(predict(model, points), true)
        directions, names = telling_latents(model, points)
    arrays = {"true": true[None], "points": points[None], "error": error[None], "directions": directions}
    extra: dict[str, Any] = {}
    if model.config.network == "basis" and model.config.turned is not None:
        arrays["turning"] = model.turning.weights
    if sum(one.numel() for one in model.state_dict().values()) > MOST_NUMBERS:
        axes = grid_axes(points, pixels)
        extra["grid"] = {"axes": axes}
        grid = torch.tensor(list(itertools.product(*axes)), dtype=torch.float32)
        arrays["grid"] = predict(model, grid)
    description = {
        **field_facts(data, model.config.diopter_ranges),
        "model": plain_model(model),
        "sets": [{"title": "held-out positions", "true": True}],
        "sliders": names,
        "origin": "the prior's mean" if model.config.prior == "learned" else "z = 0, the prior's mean",
        **extra,
    }
    return Explorer("field", description, {name: as_array(one) for name, one in arrays.items()})


def field_facts(data: LensData, diopter_ranges: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """What a page says of a lens' kernels: channels, pixels, sensor, and the distances that vary, in mm."""
    facts = data.lens_facts
    sensor = None if facts is None else list(facts.sensor_mm)
    return {
        "channels": [" + ".join(f"{wavelength:g}" for wavelength, _ in one) + " um" for one in data.channels()],
        "pixel_um": data.pixel_pitch_um * data.trace_px / data.kernel_px,
        "sensor_mm": sensor,
        "distances": [
            {"name": name.removesuffix("_mm"), "vergence": [low, high]} for name, (low, high) in diopter_ranges.items()
        ],
    }


def plain_model(model: CVAE) -> dict[str, Any]:
    """Prior and decoder for `results/explorer/network.js`."""
    config = model.config
    prior = None
    if config.prior == "learned":
        prior = described(model.prior_network.mlp, "prior_network.mlp")
        prior[-1]["rows"] = config.latent_dim  # mu, without the log-variance
    alone = config.network == "conv" and config.prior == "learned"
    turned = config.turned
    return {
        "code": code(
            config.diopter_ranges,
            config.fourier_bands,
            defocus=config.defocus,
            turned=None if turned is None else {"aspect": turned.aspect, "farthest": turned.farthest},
        ),
        "latent": config.latent_dim,
        "prior": prior,
        "inputs": ["z"] if alone else ["z", "code"],
        "decoder": described(model.decoder, "decoder"),
        "output": _output(model),
        "shape": [config.channels, config.kernel_px, config.kernel_px],
    }


def code(
    diopter_ranges: dict[str, tuple[float, float]],
    bands: int,
    *,
    defocus: bool = False,
    turned: dict[str, float] | None = None,
) -> dict[str, Any]:
    """How a point becomes the networks' condition."""
    return {"vergence": [*diopter_ranges.values()], "bands": bands, "defocus": defocus, "turned": turned}


def _output(model: CVAE) -> list[Layer]:
    config = model.config
    if config.network != "basis":
        return [{"op": "softplus_kernels", "shape": [config.channels, config.kernel_px, config.kernel_px]}]
    weights = {"mean": "mean", "components": "components", "scale": "scale"}
    mirrored = config.turned is not None
    expand = {"op": "expand", "channels": config.channels, "mirrored": mirrored, "weights": weights}
    turn = {"op": "turn", "px": config.kernel_px, "weights": {"w": "turning"}}
    return [expand, turn if mirrored else {"op": "clamp_kernels"}]


def telling_latents(model: CVAE, points: Tensor) -> tuple[Tensor, list[str]]:
    """[S, L] steps along the dimensions that change kernels most, and their names, the most telling first.

    A step is the standard deviation of the prior's mean over the field, or of the prior itself where that is the same everywhere.
    """
    latent = model.config.latent_dim
    step = model.prior(points).mu.std(dim=0) if model.config.prior == "learned" else torch.ones(latent)
    some = points[:: max(1, len(points) // TRIED_AT)][:TRIED_AT]
    mu, steps = model.prior(some).mu, step.diag()
    start = model.decode(mu, some)
    effect = torch.stack([relative_l2(model.decode(mu + one, some), start).mean() for one in steps])
    chosen = effect.argsort(descending=True)[:SLIDERS]
    return steps[chosen], [f"z{index}" for index in chosen.tolist()]


def grid_axes(points: Tensor, pixels: int) -> list[list[float]]:
    """Levels of x and y over the field, and of each distance, even in vergence between the points' extremes.

    Args:
        points, pixels: [N, d], and those of a kernel, C K K.
    """
    side = math.isqrt(GRID_PIXELS // (pixels * DISTANCES ** (points.shape[1] - 2)))
    field = torch.linspace(-1, 1, max(2, min(GRID_SIDE, side))).tolist()
    vergences = 1 / points[:, 2:].T
    return [
        field,
        field,
        *((1 / torch.linspace(float(v.min()), float(v.max()), DISTANCES)).tolist() for v in vergences),
    ]


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """On the CPU, float32."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
