"""What a user would do without a VAE: pixels one by one, and probabilistic PCA, in the same unit, on the same images.

That unit is -log of the mass of an image, of 0s and 1s or of 256 levels, in nats.

Shape legend: N = images, D = values of an image, V = values that a pixel can have, K = samples of z, L = latent dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deeplens_workers.threads import one_thread
from spaces.seeding import named_seed
from trainables.images.data import LEVELS, ImageSplit, Space, nats_of_levels
from trainables.images.evaluation import TEST_SAMPLES, VALIDATION_SAMPLES, fixed_noise
from trainables.images.ppca import fit_bernoulli, fit_ppca, in_float32
from trainables.learner import Judged
from trainables.timing import fastest

FITTED_IMAGES = 500
"""Training images by which the Bernoulli model's two numbers are chosen."""
CHUNK = 4096
FLOAT32 = 4
SEED = 0
"""Of the chances with which training images are drawn here."""


def predict_baselines(train: ImageSplit, test: ImageSplit, latent_dim: int) -> dict[str, Judged]:
    """Every baseline at the test images, by its name in trainables/images/system.py.

    Args:
        latent_dim: components of pPCA, as many as the model has latents.
    """
    return {"independent_pixels": independent_pixels(train, test), "ppca": ppca(train, test, latent_dim)}


def independent_pixels(train: ImageSplit, test: ImageSplit) -> Judged:
    """The frequency of each value at each pixel of the training images."""
    space: Space = "binary" if test.binary else "levels"
    values = 2 if test.binary else LEVELS
    log_chances = frequencies(_chunks(train, space), values).log().float()
    x = _values(_flat(test, space), values)
    pixel = torch.arange(x.shape[1])
    numbers = log_chances.shape[0] * (values - 1)
    return _judged(lambda: -log_chances[pixel, x].sum(dim=1), numbers)


def frequencies(chunks: Iterator[Tensor], values: int) -> Tensor:
    """Chances [D, V] of each value, from images that come as chunks [n, D] in [0, 1].

    Half a count is added to each, so that nothing is impossible (Krichevsky & Trofimov 1981).
    """
    counts, images = torch.zeros(()), 0
    for chunk in chunks:
        places = _values(chunk, values) + values * torch.arange(chunk.shape[1])
        counts = counts + torch.bincount(places.flatten(), minlength=chunk.shape[1] * values)
        images += len(chunk)
    return (counts.view(-1, values).double() + 0.5) / (images + 0.5 * values)


def ppca(train: ImageSplit, test: ImageSplit, latent_dim: int) -> Judged:
    """Probabilistic PCA: of levels by its closed form, of 0s and 1s as `BernoulliPpca`."""
    space: Space = "binary" if test.binary else "unit"
    x = _flat(test, space)
    fitted = fit_ppca(_chunks(train, space), latent_dim)
    if not test.binary:
        offset = nats_of_levels(space, test.elements)
        return _judged(lambda: fitted.nll(x.double()) + offset, fitted.numbers)
    kept = fitted.eigenvalues.numel()
    sample = next(_chunks(train, space))[:FITTED_IMAGES]
    model = fit_bernoulli(in_float32(fitted), sample, fixed_noise(len(sample), VALIDATION_SAMPLES, kept))
    noise = fixed_noise(len(x), TEST_SAMPLES, kept)
    return _judged(lambda: model.nll(x, noise), fitted.numbers + 2)


def _judged(score: Callable[[], Tensor], numbers: int) -> Judged:
    with one_thread():
        nll, seconds = fastest(score)
    return Judged({"nll": nll.float()}, numbers * FLOAT32, seconds / len(nll))


def _flat(split: ImageSplit, space: Space) -> Tensor:
    """All images of a held-out set, [N, D]."""
    return split.fixed_pixels(space).flatten(1)


def _chunks(train: ImageSplit, space: Space) -> Iterator[Tensor]:
    """The training images in chunks [n, D], each drawn once."""
    generator = torch.Generator().manual_seed(named_seed(SEED, "baselines"))
    for index in torch.arange(len(train)).split(CHUNK):
        chance = None
        if train.needs_chance(space):
            chance = torch.rand(len(index), *train.shape, generator=generator)
        yield train.pixels(index, space, chance).flatten(1)


def _values(x: Tensor, values: int) -> Tensor:
    """Pixels in [0, 1] as whole numbers from 0 on."""
    return (x * (values - 1)).round().long()
