import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import multivariate_normal

from trainables.images import baselines
from trainables.images.baselines import files_of, frequencies, independent_pixels, ppca
from trainables.images.codecs import CODECS, file_bits
from trainables.images.data import ImageSplit, TrainingImages
from trainables.images.ppca import BernoulliPpca, Ppca, fit_bernoulli, fit_large_ppca, fit_ppca, in_float32
from trainables.images.sealed import ImageTest


def gaussian(count: int = 400, dimension: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64) @ mixing + 3


def test_the_closed_form_is_the_gaussian_that_it_says():
    x, held_out = gaussian(), gaussian(50, seed=0) + 0.1
    model = fit_ppca([x[:150], x[150:]], latent_dim=3)
    covariance = model.loadings @ model.loadings.T + model.variance * torch.eye(8)
    expected = -multivariate_normal(model.mean.numpy(), covariance.numpy()).logpdf(held_out.numpy())
    torch.testing.assert_close(model.nll(held_out), torch.from_numpy(expected))


def test_it_is_the_maximum_of_the_likelihood():
    """Tipping & Bishop 1999: the value of the maximum, and no other model of its kind is above it."""
    x, kept = gaussian(), 3
    model = fit_ppca([x], kept)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    expected = 0.5 * (
        8 * math.log(2 * math.pi) + eigenvalues[:kept].log().sum() + 5 * eigenvalues[kept:].mean().log() + 8
    )
    best = float(model.nll(x).mean())
    assert best == pytest.approx(float(expected), abs=1e-9)
    for change in (
        Ppca(model.mean + 0.01, model.directions, model.eigenvalues, model.variance),
        Ppca(model.mean, model.directions, model.eigenvalues * 1.02, model.variance),
        Ppca(model.mean, model.directions, model.eigenvalues, model.variance * 0.98),
    ):
        assert float(change.nll(x).mean()) > best


def test_more_latents_than_values_are_as_many_as_can_be():
    x = gaussian()
    assert fit_ppca([x], 100).directions.shape == (8, 7)


def test_the_posterior_is_that_of_the_linear_model():
    x = gaussian()
    model = fit_ppca([x], 3)
    loadings = model.loadings
    precision = loadings.T @ loadings + model.variance * torch.eye(3)
    mean, deviation = model.posterior(x)
    torch.testing.assert_close(mean, (x - model.mean) @ loadings @ torch.linalg.inv(precision).T)
    torch.testing.assert_close(torch.diag(deviation.square()), model.variance * torch.linalg.inv(precision))


def bernoulli(width: float = 1.5) -> BernoulliPpca:
    torch.manual_seed(0)
    directions = torch.linalg.qr(torch.randn(4, 2))[0]
    ppca = Ppca(torch.full((4,), 0.5), directions, torch.tensor([0.3, 0.2]), torch.tensor(0.1))
    return BernoulliPpca(ppca, least=0.01, width=width)


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_the_bernoulli_models_masses_sum_to_one(width):
    """All 16 images of 4 pixels. The bound tends to the mass from below, whatever the proposal."""
    images = torch.tensor([[(code >> bit) & 1 for bit in range(4)] for code in range(16)]).float()
    noise = torch.randn(16, 20_000, 2, generator=torch.Generator().manual_seed(1))
    total = float((-bernoulli(width).nll(images, noise)).exp().sum())
    assert total == pytest.approx(1, abs=0.01)


def test_the_bernoulli_models_numbers_are_the_best_on_what_it_is_fitted_to():
    torch.manual_seed(0)
    x = (torch.rand(200, 4) < torch.tensor([0.02, 0.9, 0.5, 0.5])).float()
    noise = torch.randn(200, 8, 2)
    model = in_float32(fit_ppca([x], 2))
    chosen = fit_bernoulli(model, x, noise)
    best = float(chosen.nll(x, noise).mean())
    for least, width in ((1e-4, 1.0), (3e-2, 3.0), (1e-2, 1.5)):
        assert best <= float(BernoulliPpca(model, least, width).nll(x, noise).mean())


def test_frequencies_are_counts_with_half_a_count_more():
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    expected = torch.tensor([[1.5, 2.5], [0.5, 3.5]], dtype=torch.float64) / 4
    torch.testing.assert_close(frequencies(iter([x[:1], x[1:]]), 2), expected)
    levels = frequencies(iter([torch.tensor([[1.0], [0.0]])]), 256)
    assert levels.shape == (1, 256)
    assert float(levels.sum()) == pytest.approx(1)
    assert levels[0, 255] == levels[0, 0] == 1.5 / 130


def split(images: torch.Tensor, **keys) -> ImageSplit:
    labels = torch.zeros(len(images), dtype=torch.long)
    return ImageSplit(images.to(torch.uint8), labels, **{"binary": False, "dynamic": False, **keys})


def test_independent_binary_pixels_have_their_entropy():
    torch.manual_seed(0)
    chance = torch.tensor([0.1, 0.5, 0.9, 0.3]).view(1, 1, 2, 2)
    train, test = ((torch.rand(20_000, 1, 2, 2) < chance) for _ in range(2))
    judged = independent_pixels(split(train, binary=True), split(test, binary=True))
    entropy = -(chance * chance.log() + (1 - chance) * (1 - chance).log()).sum()
    assert float(judged.errors["nll"].mean()) == pytest.approx(float(entropy), abs=0.02)
    assert judged.bytes == 16


def test_uniform_levels_cost_eight_bits_whoever_is_asked():
    torch.manual_seed(0)
    train, test = (torch.randint(0, 256, (20_000, 1, 2, 2)) for _ in range(2))
    judged = independent_pixels(split(train), split(test))
    assert float(judged.errors["bpd"].mean()) == pytest.approx(8, abs=0.02)
    # A Gaussian of a uniform value lacks its entropy, half log2(2 pi e / 12), but for what its tails have outside.
    gaussian = float(ppca(split(train), ImageTest(split(test[:2000]), split(train[:2000])), 1).errors["bpd"].mean())
    assert 8 < gaussian < 8 + 0.5 * math.log2(2 * math.pi * math.e / 12)


def test_baselines_of_dynamic_images_are_scored_on_the_static_ones(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(baselines, "FITTED_IMAGES", 50)
    train = split(torch.randint(0, 256, (300, 1, 4, 4)), dynamic=True)
    test = split(torch.rand(40, 1, 4, 4) < 0.5, binary=True)
    judged = baselines.predict_baselines(TrainingImages(train, 4), ImageTest(test, train), latent_dim=3)
    assert list(judged) == ["independent_pixels", "ppca"]
    for one in judged.values():
        assert one.errors["nll"].shape == (40,)
        assert float(one.errors["nll"].mean()) == pytest.approx(16 * math.log(2), abs=1)
    assert judged["ppca"].bytes == 4 * (16 + 3 * 16 + 1 + 2)


def test_random_projections_find_nearly_the_maximum_of_the_likelihood():
    torch.manual_seed(0)
    x = torch.randn(500, 200) * torch.logspace(1, -1, 200) + 3
    exact, found = fit_ppca([x], 20), fit_large_ppca(x.clone(), 20)
    assert found.directions.shape == (200, 20)
    torch.testing.assert_close(found.eigenvalues, exact.eigenvalues, rtol=0.02, atol=0)
    best, value = (float(one.nll(x.double()).mean()) for one in (exact, found))
    assert best <= value <= best + 0.5
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-4, atol=1e-4)


def test_large_images_take_them(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(baselines, "LARGE", 10)
    levels = (128 + 40 * torch.randn(300, 1, 1, 1) + 5 * torch.randn(300, 1, 4, 4)).clamp(0, 255)
    test = ImageTest(split(levels[:50]), split(levels[50:]))
    judged = ppca(split(levels[50:]), test, 1)
    alone = independent_pixels(split(levels[50:]), test.images)
    assert float(judged.errors["bpd"].mean()) < float(alone.errors["bpd"].mean()) - 1
    assert judged.errors["psnr"].mean() > 30


def test_files_of_flat_images_are_small_and_those_of_noise_are_not():
    generator = torch.Generator().manual_seed(0)
    flat = split(torch.full((3, 3, 32, 32), 77))
    noise = split(torch.randint(0, 256, (3, 3, 32, 32), generator=generator))
    for codec in CODECS:
        judged = files_of(codec, flat)
        assert (judged.errors["bpd"] < 0.3).all()
        assert judged.bytes == 0
        assert judged.data is None
        assert ((files_of(codec, noise).errors["bpd"] - 8.1).abs() < 0.2).all()
    grey = split(torch.randint(0, 256, (2, 1, 16, 16), generator=generator))
    assert (files_of("png", grey).errors["bpd"] > 8).all()


@pytest.mark.parametrize("codec", list(CODECS))
def test_files_are_lossless(codec):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, **CODECS[codec])
    file.seek(0)
    np.testing.assert_array_equal(np.asarray(Image.open(file).convert("RGB")), pixels)
    image = split(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    assert float(file_bits(codec, image.images)) == 8 * len(file.getvalue())
