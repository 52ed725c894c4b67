import math

import pytest
import torch
from torch import nn

from trainables.images import evaluation
from trainables.images.data import ImageSplit
from trainables.images.evaluation import active_units, evaluate, fixed_noise, likelihoods, psnr
from trainables.images.system import METRICS
from trainables.networks.vae import VAE, VaeConfig


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


def test_bounds_are_the_same_at_every_call_and_in_every_chunking():
    model, x = network(), images().fixed_pixels("binary")
    whole = likelihoods(model, x, samples=16)
    torch.testing.assert_close(whole.nll, likelihoods(model, x, samples=16).nll, rtol=0, atol=0)
    for rows in (1, 5, 16, 40):
        chunked = likelihoods(model, x, samples=16, rows=rows)
        torch.testing.assert_close(chunked.nll, whole.nll)
        torch.testing.assert_close(chunked.nelbo, whole.nelbo)


def test_bounds_are_those_of_the_log_weights():
    model, x = network(), images(4).fixed_pixels("binary")
    with torch.no_grad():
        log_weights = model.log_weights(x, fixed_noise(4, 8, 3))
    found = likelihoods(model, x, samples=8)
    torch.testing.assert_close(found.nll, math.log(8) - log_weights.logsumexp(dim=1))
    torch.testing.assert_close(found.nelbo, -log_weights.mean(dim=1))
    assert (found.nll <= found.nelbo).all()


def test_more_samples_tighten_the_bound():
    model, x = network(), images(1000).fixed_pixels("binary")
    means = [float(likelihoods(model, x, samples).nll.mean()) for samples in (1, 4, 16)]
    assert means == sorted(means, reverse=True)


def test_an_images_bound_does_not_depend_on_the_images_behind_it():
    model, x = network(), images().fixed_pixels("binary")
    torch.testing.assert_close(likelihoods(model, x[:5], 16).nll, likelihoods(model, x, 16).nll[:5])


@pytest.mark.parametrize("likelihood", ["continuous_bernoulli", "gaussian_learned", "logistic"])
def test_levels_are_scored_as_masses(likelihood):
    """A model that knows nothing costs about eight bits a value, whether it is a density or a mass."""
    model, split = network(likelihood), images(200, binary=False)
    for weight in model.parameters():
        nn.init.zeros_(weight)
    x = split.fixed_pixels(model.likelihood.space)
    bits = float(likelihoods(model, x, 4).nll.mean()) / (16 * math.log(2))
    assert bits == pytest.approx(8, abs=0.6)


def test_metrics_are_just_those_that_are_declared():
    values = evaluate(network(), images())
    assert set(values) == {name for name in METRICS if name.startswith("val/")}
    assert all(math.isfinite(value) for value in values.values())
    assert values["val/iwae_gap"] == pytest.approx(-values["val/elbo"] - values["val/nll"])
    assert values["val/bpd"] == pytest.approx(values["val/nll"] / (16 * math.log(2)))


def test_only_so_many_images_are_looked_at(monkeypatch):
    monkeypatch.setattr(evaluation, "VALIDATION_IMAGES", 5)
    split = images()
    assert evaluate(network(), split) == evaluate(network(), split.first(5))


def test_units_that_vary_are_active():
    mu = torch.stack([torch.linspace(-1, 1, 50), torch.linspace(-0.1, 0.1, 50), torch.full((50,), 3.0)], dim=1)
    assert active_units(mu).tolist() == [True, False, False]


def test_psnr_of_a_known_error():
    assert psnr(torch.full((2, 1, 4, 4), 0.6), torch.full((2, 1, 4, 4), 0.5)).tolist() == pytest.approx(
        [20, 20], abs=1e-3
    )
    assert psnr(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).tolist() == pytest.approx([100])
