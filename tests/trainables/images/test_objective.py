"""Bits per dimension against closed forms: one definition for every model."""

import math

import pytest
import torch
from torch import nn

from tests.trainables.images.test_evaluation import images, network
from trainables.images.baselines import linear_model
from trainables.images.data import ImageSplit
from trainables.images.objective import (
    LatentModel,
    fitted_scale,
    fixed_noise,
    in_levels,
    log_mass,
    of_network,
    scores,
)
from trainables.images.ppca import fit_ppca
from trainables.networks.gaussian import Gaussian
from trainables.training.likelihoods import LIKELIHOODS, LikelihoodOptions

EVERY_LEVEL = torch.arange(256.0, dtype=torch.float64)


@pytest.mark.parametrize("mean", [-0.5, 0.0, 3.3, 127.5, 200.25, 255.0, 255.5])
@pytest.mark.parametrize("scale", [0.1, 0.7, 5.0, 40.0, 1000.0])
def test_the_masses_of_all_levels_sum_to_one(mean, scale):
    masses = log_mass(torch.full((256,), mean, dtype=torch.float64), scale, EVERY_LEVEL).exp()
    assert float(masses.sum()) == pytest.approx(1, abs=1e-12)


def test_a_mass_is_the_integral_of_the_density_over_its_level_and_the_outer_ones_have_the_tails():
    normal = torch.distributions.Normal(torch.tensor(30.2, dtype=torch.float64), 12.0)
    edges = torch.arange(-0.5, 256, dtype=torch.float64)
    cdf = normal.cdf(edges)
    cdf[0], cdf[-1] = 0, 1
    found = log_mass(torch.full((256,), 30.2, dtype=torch.float64), 12.0, EVERY_LEVEL).exp()
    torch.testing.assert_close(found, cdf.diff(), rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("scale", [0.1, 2.0, 9.0])
def test_float32_keeps_its_digits_in_the_tails(scale):
    """Up to 2,550 standard deviations away, where a mass has no float at all."""
    mean = torch.tensor([0.0, 0.0, 255.0, 100.0, 128.25]).repeat_interleave(256)
    levels = EVERY_LEVEL.repeat(5)
    single = log_mass(mean, scale, levels.float())
    double = log_mass(mean.double(), scale, levels)
    assert single.isfinite().all()
    torch.testing.assert_close(single, double.float(), rtol=2e-4, atol=2e-4)


def knows_nothing(scale_of_z: float = 1.0) -> LatentModel:
    """Mid-grey whatever z; its posterior is the prior."""

    def encode(x):
        zeros = torch.zeros(len(x), 2)
        return Gaussian(zeros, zeros + 2 * math.log(scale_of_z))

    return LatentModel("levels", encode, lambda z: torch.full((len(z), 1, 4, 4), 0.5), lambda raw: raw, None)


def split(levels: torch.Tensor) -> ImageSplit:
    return ImageSplit(levels.to(torch.uint8), torch.zeros(len(levels), dtype=torch.long), binary=False, dynamic=False)


def test_a_uniform_model_has_eight_bits():
    """A logistic so wide that half of its mass is beyond each end is not one; a mass of 1/256 for each level is."""
    uniform = LatentModel(
        "levels",
        knows_nothing().encode,
        lambda z: z,
        lambda raw: torch.full((len(raw), 1, 4, 4), 0.5),
        lambda raw, x: torch.full((len(raw),), -16 * math.log(256)),
    )
    data = split(torch.randint(0, 256, (30, 1, 4, 4)))
    own = scores(uniform, data, 50.0, 4).own
    assert own is not None
    torch.testing.assert_close(own.bits(16), torch.full((30,), 8.0))


def test_a_gaussian_of_mid_grey_costs_its_entropy():
    """Levels that are Gaussian about mid-grey: log2(sigma sqrt(2 pi e)) bits, to the width of a level."""
    generator = torch.Generator().manual_seed(0)
    levels = (127.5 + 12 * torch.randn(4000, 1, 4, 4, generator=generator)).round().clamp(0, 255)
    model, data = knows_nothing(), split(levels)
    scale = fitted_scale(model, data)
    assert scale == pytest.approx(12, rel=0.02)
    bits = scores(model, data, scale, 1).judged.bits(16)
    assert float(bits.mean()) == pytest.approx(math.log2(12 * math.sqrt(2 * math.pi * math.e)), abs=0.01)


@pytest.mark.parametrize(("name", "bits"), [("gaussian_fixed", 9.326), ("gaussian_half", 8.826)])
def test_a_variance_has_a_floor_above_the_8_bits_of_a_level(name, bits):
    """At no error at all: what a variance of 1, or of 1/2, costs of values in [0, 1]."""
    likelihood, raw = LIKELIHOODS[name](LikelihoodOptions(variance=1.0)), torch.randn(1, 1, 4, 4)
    density = likelihood.log_prob(raw, likelihood.expectation(raw))
    assert float(8 - density / (16 * math.log(2))) == pytest.approx(bits, abs=5e-4)


def test_the_floor_of_a_unit_variance_is_as_high_in_levels():
    # In levels that is a deviation of 256: so cut, it is cheaper, for the outer levels take what a density has outside.
    cut = -log_mass(torch.full((256,), 127.5), 256.0, EVERY_LEVEL.float())[128] / math.log(2)
    assert float(cut) == pytest.approx(9.326, abs=5e-4)


def test_the_discretised_score_of_ppca_is_its_closed_form():
    """Of smooth images far from 0 and 255 with many levels of noise, where a level's mass is its density times its width."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(2, 16, generator=generator) * 6
    levels = (
        128 + torch.randn(5000, 2, generator=generator) @ mixing + 5 * torch.randn(5000, 16, generator=generator)
    ).round()
    assert levels.min() > 0
    assert levels.max() < 255
    data = split(levels.view(-1, 1, 4, 4))
    x = data.fixed_pixels("unit").flatten(1)
    fitted = fit_ppca([x], 2)
    model = linear_model(fit := type(fitted)(*(one.float() for one in vars(fitted).values())), data.shape)
    closed = (fit.nll(x) + 16 * math.log(256)) / (16 * math.log(2))
    # With the model's own sigma and not the error of a posterior sample, for which there are as many bits to pay.
    found = scores(model, data, 256 * float(fit.variance) ** 0.5, 64).judged
    # The mean log-density over a level is the lower bound of its log-mass, below it by sigma^-2 / 24 and less.
    assert float(found.bits(16).mean()) == pytest.approx(float(closed.mean()), abs=0.005)
    # The exact posterior has no gap, but for the noise that makes levels continuous.
    assert float((found.nelbo - found.nll).mean()) < 0.2
    fitted_to_data = fitted_scale(model, data)
    assert fitted_to_data is not None
    assert fitted_to_data == pytest.approx(256 * float(fit.variance) ** 0.5, rel=0.05)


def test_spread_and_plain_levels_mean_the_same_image():
    levels = torch.tensor([0.0, 51.0, 255.0])
    torch.testing.assert_close(in_levels(levels / 255, "levels"), levels)
    torch.testing.assert_close(in_levels((levels + 0.5) / 256, "unit"), levels)


def test_bounds_are_the_same_at_every_call_and_in_every_chunking():
    model, data = of_network(network()), images()
    whole = scores(model, data, None, samples=16).judged
    torch.testing.assert_close(whole.nll, scores(model, data, None, samples=16).judged.nll, rtol=0, atol=0)
    for rows in (1, 5, 16, 40):
        chunked = scores(model, data, None, samples=16, rows=rows).judged
        torch.testing.assert_close(chunked.nll, whole.nll)
        torch.testing.assert_close(chunked.nelbo, whole.nelbo)


def test_bounds_of_bits_are_those_of_the_models_log_weights():
    model, data = network(), images(4)
    x = data.fixed_pixels("binary")
    with torch.no_grad():
        log_weights = model.log_weights(x, fixed_noise(4, 8, 3))
    found = scores(of_network(model), data, None, samples=8).judged
    torch.testing.assert_close(found.nll, math.log(8) - log_weights.logsumexp(dim=1))
    torch.testing.assert_close(found.nelbo, -log_weights.mean(dim=1))
    assert (found.nll <= found.nelbo).all()


def test_more_samples_tighten_the_bound():
    for model, data in ((network(), images(600)), (network("gaussian_learned"), images(600, binary=False))):
        scale = fitted_scale(of_network(model), data)
        means = [float(scores(of_network(model), data, scale, k).judged.nll.mean()) for k in (1, 4, 16)]
        assert means == sorted(means, reverse=True)


def test_an_images_bound_does_not_depend_on_the_images_behind_it():
    model, data = of_network(network()), images()
    few = scores(model, data.first(5), None, 16).judged.nll
    torch.testing.assert_close(few, scores(model, data, None, 16).judged.nll[:5])


@pytest.mark.parametrize("likelihood", ["continuous_bernoulli", "gaussian_learned", "logistic"])
def test_a_models_own_score_is_of_masses(likelihood):
    """A model that knows nothing costs about eight bits a value, whether it is a density or a mass."""
    model, data = network(likelihood), images(200, binary=False)
    for weight in model.parameters():
        nn.init.zeros_(weight)
    own = scores(of_network(model), data, 80.0, 4).own
    assert own is not None
    assert float(own.bits(16).mean()) == pytest.approx(8, abs=0.6)


def test_a_likelihood_has_no_part_in_the_score_of_levels():
    """Two models of the same posterior and mean image differ in their own score only."""
    one, other = network("gaussian_half"), network("laplace")
    other.load_state_dict(one.state_dict(), strict=False)
    data = images(20, binary=False)
    first, second = (scores(of_network(model), data, 30.0, 4) for model in (one, other))
    torch.testing.assert_close(first.judged.nll, second.judged.nll)
    assert first.own is not None
    assert second.own is not None
    assert (first.own.nll - second.own.nll).abs().max() > 0.1
