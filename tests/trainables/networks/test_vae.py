"""The VAE: shapes, parameter counts, terms, rebuilding."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal

from trainables.networks.decoders import DECODERS
from trainables.networks.encoders import ENCODERS
from trainables.networks.vae import VAE, VaeConfig
from trainables.sizes import NETWORKS
from trainables.training.likelihoods import LIKELIHOODS

SMALL = VaeConfig("conv", channels=1, px=8, latent_dim=3, base_width=4, hidden_dim=6, likelihood="bernoulli")
# Network -> sides of its images, the smallest first.
SIDES = {
    "mlp": [4, 27],
    "conv": [4, 8, 28, 32],
    "resnet": [4, 8, 28, 32],
    "residual": [32, 64, 128],
    "bottleneck": [4, 28],
}
SPATIAL = {"residual": 2 * 64}
"""Networks whose latent is of 8 x 8 pixels, and its numbers here."""


def built(config=SMALL, **changes):
    """By default with the smallest images of its network."""
    torch.manual_seed(0)
    network = changes.get("network", config.network)
    own = {"px": SIDES[network][0], "latent_dim": SPATIAL.get(network, 3)} if "network" in changes else {}
    return VAE(replace(config, **{**own, **changes}))


def images_for(model, count=2):
    return torch.rand(count, 1, model.config.px, model.config.px).round()


def noise_for(model, samples=1, count=2):
    return torch.randn(count, samples, model.config.latent_dim)


def test_every_network_has_its_sides():
    assert ENCODERS.keys() == DECODERS.keys() == NETWORKS.keys() == SIDES.keys()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("network", "px"), [(network, px) for network, sides in SIDES.items() for px in sides])
@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
def test_every_pair_keeps_the_shape(network, likelihood, px, channels):
    model = built(network=network, likelihood=likelihood, px=px, channels=channels)
    x, latents = torch.rand(2, channels, px, px).round(), model.config.latent_dim
    NETWORKS[network](px, model.config.levels)
    assert model.encode(x).mu.shape == model.encode(x).logvar.shape == (2, latents)
    assert model.reconstruct(x).shape == x.shape
    raw = model.decode(torch.randn(5, latents))
    assert raw.shape == (5, model.likelihood.parameters_per_channel * channels, px, px)
    images = model.generate(torch.randn(5, latents))
    assert images.shape == (5, channels, px, px)
    assert 0 <= images.min() <= images.max() <= 1


@pytest.mark.parametrize(
    ("network", "px", "nearest"),
    [
        ("conv", 27, 28),
        ("resnet", 27, 28),
        ("bottleneck", 30, 32),
        ("residual", 16, 32),
        ("residual", 48, 64),
        ("residual", 80, 64),
    ],
)
def test_a_size_that_a_network_does_not_take_is_refused_by_both_parts_and_before_them(network, px, nearest):
    config = replace(SMALL, network=network, px=px, latent_dim=SPATIAL.get(network, 3))
    for refuse in (
        lambda: ENCODERS[network](config),
        lambda: DECODERS[network](config, 1),
        lambda: NETWORKS[network](px, config.levels),
    ):
        with pytest.raises(ValueError, match=f"got {px}; nearest: {nearest}"):
            refuse()


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
def test_the_small_networks_sizes(network, hidden, channels, px, count):
    model = VAE(VaeConfig(network, channels, px, 32, 16, hidden, "bernoulli"))
    assert sum(weight.numel() for weight in model.parameters()) == count


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_each_level_halves_the_side_and_doubles_the_channels(network):
    model = built(network=network, px=32, levels=3)
    convolutions = [part for part in model.encoder if isinstance(part, torch.nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [4, 8, 16]
    features = torch.nn.Sequential(*convolutions)(torch.rand(2, 1, 32, 32))
    assert features.shape == (2, 16, 4, 4)
    assert model.reconstruct(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)
    with pytest.raises(ValueError, match="multiple of 8 for 3 halvings, but got 28"):
        built(network=network, px=28, levels=3)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # Document 003, with two blocks a level; and document 002, whose list of channels has 256 at 16 x 16 pixels.
        (VaeConfig("bottleneck", 3, 64, 256, 64, 1, "gaussian_half", levels=3), 30_812_931),
        (VaeConfig("residual", 1, 256, 8 * 64, 32, 1, "none"), 9_200_177),
    ],
)
def test_sizes_of_the_source_documents(config, count):
    with torch.device("meta"):
        model = VAE(config)
    assert sum(weight.numel() for weight in model.parameters()) == count


@pytest.mark.parametrize("network", ENCODERS)
def test_every_network_rebuilds_through_json(network):
    others = {"convs": 1, "norm": "group", "upsampling": "transposed4", "attention": False, "blocks": 1, "se_ratio": 2}
    model = built(network=network, **others)
    again = VAE(VaeConfig(**json.loads(json.dumps(model.config_dict))))
    again.load_state_dict(model.state_dict())
    x = images_for(model)
    torch.testing.assert_close(again.eval().reconstruct(x), model.eval().reconstruct(x), rtol=0, atol=0)


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
    model = built(network=network)
    x, noise, z = images_for(model), noise_for(model, samples=2), torch.randn(2, model.config.latent_dim)
    seen = []

    def compare(images, true):
        seen.append((images @ true.mT).dtype)
        return {"l2": (images - true).square().flatten(1).mean(dim=1)}

    with torch.autocast("cpu", torch.bfloat16):
        assert model.decode(z).dtype == torch.bfloat16
        terms = model(x, noise, compare)
    tensors = (terms.log_likelihood, terms.kl, terms.log_ratio, terms.distances["l2"])
    assert {*seen, *(term.dtype for term in tensors)} == {torch.float32}
    (terms.kl.sum() - terms.log_likelihood.sum()).backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("network", ENCODERS)
def test_every_weight_has_a_gradient_in_one_sample(network, likelihood):
    """None is left out: data-parallel training would wait for it."""
    model = built(network=network, likelihood=likelihood)
    terms = model(images_for(model), noise_for(model), lambda a, b: {"l1": (a - b).abs().flatten(1).mean(dim=1)})
    loss = terms.kl.sum() + terms.distances["l1"].sum()
    (loss if terms.log_likelihood is None else loss - terms.log_likelihood.sum()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_distances_are_between_the_decoders_images_and_the_true_ones():
    model = built(likelihood="gaussian_half").eval()
    x, noise = torch.rand(3, 1, 8, 8), torch.randn(3, 2, 3)
    terms = model(x, noise, lambda a, b: {"l2": (a - b).square().flatten(1).sum(dim=1)})
    # A Gaussian of variance 1/2 is the squared error, up to its constant.
    expected = -terms.log_likelihood.flatten() - 64 * 0.5 * math.log(math.pi)
    torch.testing.assert_close(terms.distances["l2"], expected, atol=1e-4, rtol=1e-4)
    assert terms.elements == 64


def test_without_a_likelihood_there_are_images_and_no_nats():
    model = built(likelihood="none")
    terms = model(torch.rand(2, 1, 8, 8), torch.randn(2, 1, 3))
    assert terms.log_likelihood is None
    assert not model.likelihood.normalised
    raw = model.decode(torch.randn(2, 3))
    torch.testing.assert_close(model.likelihood.mean(raw), raw.sigmoid())
