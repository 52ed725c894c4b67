"""The VAE: shapes, parameter counts, terms, rebuilding."""

import json
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal

from trainables.networks.encoders import ENCODERS
from trainables.networks.vae import VAE, VaeConfig
from trainables.training.likelihoods import LIKELIHOODS

SMALL = VaeConfig("conv", channels=1, px=8, latent_dim=3, base_width=4, hidden_dim=6, likelihood="bernoulli")


def built(config=SMALL, **changes):
    torch.manual_seed(0)
    return VAE(replace(config, **changes))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("px", [4, 8, 28, 32])
@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
@pytest.mark.parametrize("network", ENCODERS)
def test_every_pair_keeps_the_shape(network, likelihood, px, channels):
    model = built(network=network, likelihood=likelihood, px=px, channels=channels)
    x = torch.rand(2, channels, px, px).round()
    assert model.encode(x).mu.shape == model.encode(x).logvar.shape == (2, 3)
    assert model.reconstruct(x).shape == x.shape
    raw = model.decode(torch.randn(5, 3))
    assert raw.shape == (5, model.likelihood.parameters_per_channel * channels, px, px)
    images = model.generate(torch.randn(5, 3))
    assert images.shape == (5, channels, px, px)
    assert 0 <= images.min() <= images.max() <= 1


def test_mlp_takes_any_size_and_convolutions_tell_theirs():
    assert built(network="mlp", px=27).reconstruct(torch.rand(1, 1, 27, 27)).shape == (1, 1, 27, 27)
    for network in ("conv", "resnet"):
        with pytest.raises(ValueError, match="got 27; nearest: 28"):
            built(network=network, px=27)


@pytest.mark.parametrize(
    ("network", "hidden", "channels", "px", "count"),
    [
        ("mlp", 400, 1, 28, 988_048),
        ("conv", 256, 1, 28, 846_497),
        ("resnet", 256, 1, 28, 893_153),
        ("mlp", 400, 3, 32, 2_820_736),
        ("conv", 256, 3, 32, 1_093_763),
        ("resnet", 256, 3, 32, 1_140_419),
    ],
)
def test_sizes_are_pinned(network, hidden, channels, px, count):
    model = VAE(VaeConfig(network, channels, px, 32, 16, hidden, "bernoulli"))
    assert sum(weight.numel() for weight in model.parameters()) == count


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_rebuilds_through_json(name):
    model = built(likelihood=name, charbonnier_epsilon=0.02, decoder_variance=0.3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01)
    again = VAE(VaeConfig(**json.loads(json.dumps(model.config_dict))))
    again.load_state_dict(model.state_dict())
    x, noise = torch.rand(2, 1, 8, 8).round(), torch.randn(2, 2, 3)
    torch.testing.assert_close(again.eval()(x, noise), model.eval()(x, noise), rtol=0, atol=0)


def test_terms_are_what_torch_says():
    """One image, two samples: each term from Normal and Bernoulli, and the log-weights from all of them."""
    model, x, noise = built(), torch.rand(4, 1, 8, 8).round(), torch.randn(4, 2, 3)
    terms = model(x, noise)
    q = model.encode(x)
    posterior, prior = Normal(q.mu, (q.logvar / 2).exp()), Normal(torch.zeros(3), torch.ones(3))
    torch.testing.assert_close(terms.kl, torch.distributions.kl_divergence(posterior, prior), atol=1e-6, rtol=1e-4)
    for sample in range(2):
        z = posterior.mean + posterior.stddev * noise[:, sample]
        expected = model.likelihood.log_prob(model.decode(z), x)
        torch.testing.assert_close(terms.log_likelihood[:, sample], expected)
        ratio = (prior.log_prob(z) - posterior.log_prob(z)).sum(dim=1)
        torch.testing.assert_close(terms.log_ratio[:, sample], ratio, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.log_weights(x, noise), terms.log_likelihood + terms.log_ratio)
    assert model(x, noise[:, :1]).log_ratio is None


def test_mean_log_ratio_is_minus_the_kl():
    model, x = built(), torch.rand(2, 1, 8, 8).round()
    torch.nn.init.normal_(model.encoder[-1].weight, std=0.5)
    terms = model(x, torch.randn(2, 40_000, 3, generator=torch.Generator().manual_seed(1)))
    error = terms.log_ratio.std(dim=1).max().item() / 200
    torch.testing.assert_close(terms.log_ratio.mean(dim=1), -terms.kl.sum(dim=1), atol=4 * error, rtol=0)


@pytest.mark.parametrize("network", ENCODERS)
def test_bfloat16_ends_at_the_networks(network):
    model, x, noise = built(network=network), torch.rand(2, 1, 8, 8).round(), torch.randn(2, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.decode(torch.randn(2, 3)).dtype == torch.bfloat16
        terms = model(x, noise)
    assert {term.dtype for term in terms} == {torch.float32}
    (terms.kl.sum() - terms.log_likelihood.sum()).backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("network", ENCODERS)
def test_every_weight_has_a_gradient_in_one_sample(network):
    """None is left out: data-parallel training would wait for it."""
    for likelihood in LIKELIHOODS:
        model = built(network=network, likelihood=likelihood)
        terms = model(torch.rand(2, 1, 8, 8).round(), torch.randn(2, 1, 3))
        (terms.kl.sum() - terms.log_likelihood.sum()).backward()
        assert all(weight.grad is not None for weight in model.parameters())
