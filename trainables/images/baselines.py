"""What a user would do without a VAE: pixels one by one, lossless files, and probabilistic PCA, in the same unit, on the same images.

That unit is -log of the mass of an image: of 0s and 1s in nats, of 256 levels in bits per value.

Shape legend: N = images, D = values of an image, V = values that a pixel can have, K = samples of z, L = latent dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from deeplens_workers.threads import one_thread
from trainables.images.codecs import CODECS, file_bits
from trainables.images.data import LEVELS, MOST_CROPS, ImageSplit, Space, TrainingImages
from trainables.images.evaluation import TEST_SAMPLES, VALIDATION_SAMPLES, errors, shown_as
from trainables.images.objective import LatentModel, fitted_scale, fixed_noise, scores
from trainables.images.ppca import LARGE, Ppca, fit, fit_bernoulli, in_float32
from trainables.images.sealed import ImageTest
from trainables.images.similarity import psnr
from trainables.learner import Judged
from trainables.networks.gaussian import Gaussian
from trainables.timing import fastest
from trainables.training.ssim import ssim

FITTED_IMAGES = 500
"""Training images by which the Bernoulli model's two numbers are chosen."""
MOST_VALUES = 2**27
"""Of all images that large ones' principal components are found from: half a GB."""
TIMED_IMAGES = 32
FLOAT32 = 4


def predict_baselines(train: TrainingImages, test: ImageTest, latent_dim: int) -> dict[str, Judged]:
    """Every baseline at the test images, by its name in trainables/images/system.py.

    Args:
        latent_dim: components of pPCA, as many as the model has latents.
    """
    sample = train.sample(max(MOST_CROPS, len(train.whole)))
    files = {} if test.images.of_bits else {name: files_of(name, test.images) for name in CODECS}
    return {
        "independent_pixels": independent_pixels(sample, test.images),
        **files,
        "ppca": ppca(sample, test, latent_dim),
    }


def independent_pixels(train: ImageSplit, test: ImageSplit) -> Judged:
    """The frequency of each value at each pixel of the training images."""
    space: Space = "binary" if test.of_bits else "levels"
    values = 2 if test.of_bits else LEVELS
    log_chances = frequencies(train.chunks(space), values).log().float()
    x = _values(test.fixed_pixels(space).flatten(1), values)
    pixel = torch.arange(x.shape[1])
    numbers = log_chances.shape[0] * (values - 1)
    with one_thread():
        nll, seconds = fastest(lambda: -log_chances[pixel, x].sum(dim=1))
    name, unit = ("nll", 1.0) if test.of_bits else ("bpd", test.elements * math.log(2))
    return Judged({name: nll / unit}, numbers * FLOAT32, seconds / len(nll))


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


def files_of(codec: str, test: ImageSplit) -> Judged:
    """Each image as a losslessly compressed file of its own, headers and all. Nothing is learned, so nothing is kept."""
    with one_thread():
        _, seconds = fastest(lambda: file_bits(codec, test.images[:TIMED_IMAGES]))
    return Judged(
        {"bpd": file_bits(codec, test.images) / test.elements}, 0, seconds / min(TIMED_IMAGES, len(test)), data=None
    )


def ppca(train: ImageSplit, test: ImageTest, latent_dim: int) -> Judged:
    """Probabilistic PCA: its mean image and its exact posterior are scored as a VAE's are; of 0s and 1s as `BernoulliPpca`."""
    space: Space = "binary" if test.images.of_bits else "unit"
    few = train if train.elements <= LARGE else train.first(min(MOST_CROPS, MOST_VALUES // train.elements))
    fitted = in_float32(fit(few.chunks(space), latent_dim))
    if not test.images.of_bits:
        return _linear(fitted, test)
    kept = fitted.eigenvalues.numel()
    sample = next(train.chunks(space))[:FITTED_IMAGES]
    model = fit_bernoulli(fitted, sample, fixed_noise(len(sample), VALIDATION_SAMPLES, kept))
    x = test.images.fixed_pixels(space)
    noise = fixed_noise(len(x), TEST_SAMPLES, kept)
    with one_thread():
        nll, seconds = fastest(lambda: model.nll(x.flatten(1), noise))
    decoded = model.chances(fitted.posterior(x.flatten(1))[0]).view_as(x)
    return Judged(
        {"nll": nll, "psnr": psnr(decoded, x), "ssim": ssim(decoded, x)},
        (fitted.numbers + 2) * FLOAT32,
        seconds / len(nll),
    )


def _linear(fitted: Ppca, test: ImageTest) -> Judged:
    model = linear_model(fitted, test.images.shape)
    scale = fitted_scale(model, test.calibration)
    found = errors(scores(model, test.images, scale, TEST_SAMPLES), test.images)
    timed = test.images.first(TIMED_IMAGES)
    with one_thread():
        _, seconds = fastest(lambda: scores(model, timed, scale, TEST_SAMPLES))
    mu = model.encode(test.images.fixed_pixels("unit")).mu
    shown = shown_as(test.images, model.mean(model.decode(mu)), unit=True)
    return Judged(
        {**found, "psnr": psnr(shown.decoded, shown.true), "ssim": ssim(shown.decoded, shown.true)},
        fitted.numbers * FLOAT32,
        seconds / len(timed),
    )


def linear_model(fitted: Ppca, shape: tuple[int, int, int]) -> LatentModel:
    """pPCA of images [C, H, W] spread over [0, 1], as it is scored: its mean image is cut to [0, 1] as a VAE's."""

    def encode(x: Tensor) -> Gaussian:
        mean, deviation = fitted.posterior(x.flatten(1))
        return Gaussian(mean, (2 * deviation.log()).expand_as(mean))

    loadings = fitted.loadings.T.contiguous()
    return LatentModel(
        "unit",
        encode,
        lambda z: fitted.mean + z @ loadings,
        lambda raw: raw.clamp(0, 1).unflatten(1, shape),
        None,
    )


def _values(x: Tensor, values: int) -> Tensor:
    """Pixels in [0, 1] as whole numbers from 0 on."""
    return (x * (values - 1)).round().long()
