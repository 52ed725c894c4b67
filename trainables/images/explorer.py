"""What the explorer of a report shows of a model of images: the decoder as plain layers, or pictures that were decoded here.

Shape legend: n = images shown, R = dimensions with a slider, M = steps of one, C = channel, H, W = pixels, L = latent dimension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spaces.explorer import Explorer, Layer
from trainables.images.data import ImageSplit
from trainables.images.evaluation import encode, generate
from trainables.images.pictures import FARTHEST, STEPS, TEMPERATURES, TRAVERSED, moved, one_of_each, prior_samples
from trainables.learner import evaluating
from trainables.networks.described import NotDescribed, described, multiplications
from trainables.networks.vae import VAE
from trainables.training import likelihoods

SHOWN = 12
STRIPS = 4
"""Images whose latents are moved here: of 64 x 64 pixels in colour 3.5 MB before compression."""
MOST_MULTIPLICATIONS = 60_000_000
"""Of one image: a page does some 500 million a second."""
CENTRE, SIGMOID, LANGEVIN = ({"op": name} for name in ("centre", "sigmoid", "langevin"))
MEANS: dict[type[likelihoods.Likelihood], Layer] = {
    likelihoods.Bernoulli: SIGMOID,
    likelihoods.NoLikelihood: SIGMOID,
    likelihoods.ContinuousBernoulli: LANGEVIN,
    likelihoods.SharedGaussian: CENTRE,
    likelihoods.PixelGaussian: CENTRE,
    likelihoods.Laplace: CENTRE,
    likelihoods.Charbonnier: CENTRE,
}
"""How a page makes a mean image of what the decoder says."""


def image_explorer(network: VAE, split: ImageSplit) -> Explorer:
    """Some test images of each class with their latents, and sliders along the dimensions whose posterior mean varies most."""
    chosen = one_of_each(split, SHOWN)
    with evaluating(network):
        model = plain_decoder(network)
        x = split.fixed_pixels(network.likelihood.space)
        mu = encode(network, x).mu
        dimensions = mu.var(dim=0, correction=0).argsort(descending=True)[:TRAVERSED]
        arrays = {"images": pixels(x[chosen]), "decoded": pixels(generate(network, mu[chosen]))}
        arrays["mu"] = mu[chosen].numpy()
        if model is None:
            at = torch.linspace(-FARTHEST, FARTHEST, STEPS)
            strips = torch.stack([moved(one, dimensions, at) for one in mu[chosen[:STRIPS]]])
            decoded = generate(network, strips.flatten(0, 2))
            arrays["strips"] = pixels(decoded.unflatten(0, strips.shape[:3]))
            arrays["samples"] = pixels(prior_samples(network, columns=SHOWN))
    description: dict[str, Any] = {
        "model": model,
        "latent": mu.shape[1],
        "sliders": dimensions.tolist(),
        "farthest": FARTHEST,
        "temperatures": list(TEMPERATURES),
        "titles": [_title(split, int(index)) for index in chosen],
    }
    return Explorer("images", description, arrays)


def plain_decoder(network: VAE) -> dict[str, Any] | None:
    """For `results/explorer/network.js`; None: a page does not know its layers, or would take long for one image."""
    config = network.config
    cost = multiplications(network.decoder, torch.zeros(1, config.latent_dim))
    mean = MEANS.get(type(network.likelihood))
    if cost > MOST_MULTIPLICATIONS or mean is None:
        return None
    try:
        layers = described(network.decoder, "decoder")
    except NotDescribed:
        return None
    output: list[Layer] = [{**mean, "channels": config.channels}]
    if network.linear is not None:
        parts = {"w": "directions", "mean": "mean", "eigenvalues": "eigenvalues", "variance": "variance"}
        weights = {short: f"linear.{name}" for short, name in parts.items()}
        logit = output[0]["op"] == "sigmoid"
        output.insert(0, {"op": "plus_linear", "logit": logit and likelihoods.LEAST_CHANCE, "weights": weights})
    return {"decoder": layers, "output": output, "shape": [config.channels, config.px, config.px]}


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """[..., H, W] in [0, 1] -> levels up to 255."""
    return (images.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _title(split: ImageSplit, index: int) -> str:
    label = int(split.labels[index])
    return split.classes[label] if label < len(split.classes) else f"image {index + 1}"
