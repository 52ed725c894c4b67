"""A network that adds to probabilistic PCA begins as it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainables.images.baselines import linear_model
from trainables.images.data import ImageSplit, ImageTensors, TrainingImages
from trainables.images.learner import ImageLearner
from trainables.images.objective import fitted_scale, of_network, scores
from trainables.images.ppca import fit_ppca, in_float32
from trainables.images.trial import SPACES, VaeImageTrial
from trainables.sizes import NETWORKS
from trainables.training.likelihoods import LIKELIHOODS, LikelihoodOptions

SIDE, LATENTS = 32, 5
INVERTIBLE = [name for name in LIKELIHOODS if name != "continuous_bernoulli"]


@pytest.fixture(scope="module")
def data() -> ImageTensors:
    """Images that lie near a plane of five dimensions."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(LATENTS, 1, SIDE, SIDE, generator=generator)
    latents = torch.randn(60, LATENTS, generator=generator)
    noise = torch.randn(60, 1, SIDE, SIDE, generator=generator)
    images = 128 + 20 * torch.einsum("nl,lchw->nchw", latents, patterns) + 5 * noise
    split = ImageSplit(images.clamp(0, 255).byte(), torch.zeros(60), binary=False, dynamic=False)
    return ImageTensors(TrainingImages(split, SIDE), split)


def network_of(data: ImageTensors, **changes: Any) -> Any:
    torch.manual_seed(0)
    values = {"ppca": True, "latent_dim": LATENTS, "latent_channels": 1, "base_width": 4, "hidden_dim": 8}
    return ImageLearner().build(VaeImageTrial(**(values | {"likelihood": "gaussian_learned"} | changes)), data)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_begins_with_nothing_to_add(data, network):
    vae = network_of(data, network=network).eval()
    z = torch.randn(3, vae.config.latent_dim)
    x = data.train.whole.fixed_pixels("unit")[:4]
    with torch.no_grad():
        assert torch.allclose(vae.generate(z), vae.linear.images(z).clamp(0, 1), atol=1e-6)
        linear, posterior = vae.linear.posterior(x), vae.encode(x)
    apart = (posterior.mu - linear.mu) / (linear.logvar / 2).exp()
    assert apart.abs().mean() < 1  # of the linear posterior's own spread


def test_its_score_is_that_of_the_linear_model_and_training_leaves_it_behind(data):
    fitted = in_float32(data.ppca("unit", LATENTS))
    vae, linear = of_network(network_of(data).eval()), linear_model(fitted, (1, SIDE, SIDE))

    def bits(model: Any) -> float:
        scale = fitted_scale(model, data.train.whole)
        return float(scores(model, data.train.whole, scale, 4).judged.bits(SIDE**2).mean())

    assert bits(vae) == pytest.approx(bits(linear), rel=2e-3)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_a_mean_image_is_what_is_said_for_it(name):
    likelihood = LIKELIHOODS[name](LikelihoodOptions())
    mean = torch.linspace(0.2, 0.8, 12).view(1, 3, 2, 2)
    raw = likelihood.raw_of(mean)
    assert raw.shape == (1, 3 * likelihood.parameters_per_channel, 2, 2)
    # The logistic begins wide, and its tails outside [0, 1] count as 0 and 1.
    assert torch.allclose(likelihood.expectation(raw), mean, atol=0.1 if name == "logistic" else 1e-6)


def test_a_likelihood_whose_mean_has_no_inverse_is_refused():
    with pytest.raises(ValueError, match="continuous_bernoulli"):
        VaeImageTrial(likelihood="continuous_bernoulli", ppca=True)


def test_fewer_latents_are_cut_from_more():
    torch.manual_seed(0)
    x = torch.randn(200, 8, dtype=torch.float64) @ torch.diag(torch.linspace(3, 0.5, 8, dtype=torch.float64))
    cut, fitted = fit_ppca([x], 6).cut(3), fit_ppca([x], 3)
    for one, other in zip(cut.parts, fitted.parts, strict=True):
        assert torch.allclose(one, other)


def test_latents_beyond_what_images_have_say_nothing():
    """Six images have one: a quarter of them."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 1, 32, 32), generator=generator, dtype=torch.uint8)
    split = ImageSplit(pixels, torch.zeros(6), binary=False, dynamic=False)
    vae = network_of(ImageTensors(TrainingImages(split, 32), split), latent_dim=9)
    posterior = vae.linear.posterior(split.fixed_pixels("unit"))
    assert posterior.mu[:, 1:].abs().max() == 0
    assert posterior.logvar[:, 1:].abs().max() < 1e-6


def test_it_is_rebuilt_with_its_weights(data):
    vae = network_of(data).eval()
    again = ImageLearner().rebuild(vae.config_dict)
    again.load_state_dict(vae.state_dict())
    z = torch.randn(2, LATENTS)
    assert torch.equal(vae.generate(z), again.eval().generate(z))


def test_spaces_of_likelihoods_are_fitted_apart(data):
    unit, levels = data.ppca("unit", LATENTS), data.ppca(SPACES["none"], LATENTS)
    assert not torch.equal(unit.mean, levels.mean)
    assert data.ppca("unit", LATENTS).mean is unit.mean  # once
