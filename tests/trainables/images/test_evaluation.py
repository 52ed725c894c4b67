import math

import pytest
import torch
from torch import nn

from trainables.images import evaluation
from trainables.images.data import ImageSplit, ImageTensors, TrainingImages
from trainables.images.evaluation import active_units, evaluate, mutual_information, prior_gap
from trainables.images.image_data import ImageData
from trainables.images.system import METRICS
from trainables.networks.gaussian import Gaussian
from trainables.networks.vae import VAE, VaeConfig

REPORTED = [name for name in METRICS if name.startswith("val/")]


def network(likelihood: str = "bernoulli", **keys) -> VAE:
    torch.manual_seed(0)
    config = {"network": "mlp", "channels": 1, "px": 4, "latent_dim": 3, "base_width": 8, "hidden_dim": 16}
    model = VAE(VaeConfig(**{**config, "likelihood": likelihood, **keys}))
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)  # a posterior that is not the prior
    return model


def images(count: int = 12, *, binary: bool = True) -> ImageSplit:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 2 if binary else 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return ImageSplit(pixels, torch.arange(count) % 10, binary=binary, dynamic=False)


def data_of(split: ImageSplit) -> ImageTensors:
    return ImageTensors(TrainingImages(split, 4), split)


@pytest.mark.parametrize(("likelihood", "binarise"), [("bernoulli", "static"), ("gaussian_learned", "none")])
def test_metrics_are_just_those_that_are_declared_for_such_pixels(likelihood, binarise):
    of = ImageData(binarise=binarise)
    values = evaluate(network(likelihood), data_of(images(binary=binarise == "static")))
    expected = {name for name in REPORTED if of.measures(name)}
    assert set(values) == (expected if binarise == "none" else expected - {"val/rmse_levels"})
    assert all(math.isfinite(value) for value in values.values())
    if binarise == "static":
        assert values["val/iwae_gap"] == pytest.approx(-values["val/elbo"] - values["val/nll"], abs=1e-4)
    else:
        nats = values["val/bpd"] * 16 * math.log(2)
        assert values["val/iwae_gap"] == pytest.approx(-values["val/elbo"] - nats, abs=1e-3)


def test_only_so_many_images_are_looked_at(monkeypatch):
    monkeypatch.setattr(evaluation, "VALIDATION_IMAGES", 5)
    split = images()
    few = ImageTensors(TrainingImages(split, 4), split.first(5))
    assert evaluate(network(), data_of(split)) == evaluate(network(), few)


def test_units_that_vary_are_active():
    mu = torch.stack([torch.linspace(-1, 1, 50), torch.linspace(-0.1, 0.1, 50), torch.full((50,), 3.0)], dim=1)
    assert active_units(mu).tolist() == [True, False, False]


def test_posteriors_that_are_the_prior_tell_nothing_and_leave_no_gap():
    zeros = torch.zeros(200, 4)
    assert mutual_information(Gaussian(zeros, zeros)) == pytest.approx(0, abs=1e-6)
    assert prior_gap(Gaussian(zeros, zeros)) == pytest.approx(0, abs=1e-6)


def test_latents_that_tell_images_apart_have_the_log_of_their_number():
    mu = torch.arange(64.0)[:, None] * 100
    assert mutual_information(Gaussian(mu, torch.zeros(64, 1))) == pytest.approx(math.log(64))


def test_the_mutual_information_of_a_gaussian_channel_is_its_capacity():
    """mu ~ N(0, s), z = mu + N(0, n): 1/2 log(1 + s / n) nats, here with s + n = 1 so that q(z) is the prior."""
    torch.manual_seed(0)
    signal, noise = 0.8, 0.2
    mu = torch.randn(4000, 1) * signal**0.5
    posterior = Gaussian(mu, torch.full((4000, 1), math.log(noise)))
    assert mutual_information(posterior) == pytest.approx(0.5 * math.log(1 + signal / noise), abs=0.04)
    assert prior_gap(posterior) == pytest.approx(0, abs=0.01)


def test_the_prior_gap_is_the_divergence_of_a_gaussian_aggregate():
    """q(z) = N(1, 1.5) in one dimension: 1/2 (1.5 + 1 - 1 - log 1.5)."""
    torch.manual_seed(0)
    mu = 1 + torch.randn(200_000, 1)
    found = prior_gap(Gaussian(mu, torch.full((200_000, 1), math.log(0.5))))
    assert found == pytest.approx(0.5 * (1.5 + 1 - 1 - math.log(1.5)), abs=0.01)
