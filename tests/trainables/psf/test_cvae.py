"""The model: constraints, sizes, conditions."""

import pytest
import torch

from trainables.networks.mlp import FourierEncoding, constrain, scale_conditions
from trainables.psf.cvae import CVAE, CvaeConfig

SMALL = CvaeConfig(2, 7, {}, latent_dim=5, hidden_dim=16, num_layers=2, fourier_bands=3)
DEEP = CvaeConfig(
    2, 7, {"depth_mm": (0.1, 2.0), "focus_mm": (0.1, 2.0)}, latent_dim=5, hidden_dim=16, num_layers=2, fourier_bands=3
)


def points(count: int, config: CvaeConfig) -> torch.Tensor:
    xy = torch.rand(count, 2) * 2 - 1
    distances = torch.linspace(-10000, -500, count)[:, None].expand(-1, len(config.diopter_ranges))
    return torch.cat([xy, distances], dim=1)


def test_parameters_of_the_source_document_and_the_raw_coordinates_beside_its_encoding():
    document = CvaeConfig(3, 15, {}, latent_dim=128, hidden_dim=512, num_layers=4, fourier_bands=10)
    # The document's three MLPs have 3,446,947 with its 40 features; two raw coordinates enter each of the three.
    assert sum(parameter.numel() for parameter in CVAE(document).parameters()) == 3_446_947 + 3 * 2 * 512 == 3_450_019


def test_fourier_encoding():
    code = FourierEncoding(2, 2)(torch.tensor([[0.5, -1.0]]))
    sines, cosines = [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, -1.0, 1.0]
    torch.testing.assert_close(code, torch.tensor([[0.5, -1.0, *sines, *cosines]]), atol=1e-6, rtol=0)
    assert FourierEncoding(3, 0)(torch.ones(4, 3)).shape == (4, 3)


def test_raw_coordinates_tell_opposite_edges_apart():
    left, right = FourierEncoding(2, 4)(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    torch.testing.assert_close(left[2:], right[2:], atol=1e-5, rtol=0)
    assert not torch.allclose(left, right)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_constrained_kernels_are_non_negative_with_unit_sum_per_channel(scale):
    kernels = constrain(scale * torch.randn(4, 3, 7, 7))
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum(dim=(-2, -1)), torch.ones(4, 3))


def test_distances_enter_as_vergence_each_scaled_to_unit_range():
    points = torch.tensor([[0.3, -0.7, -10000.0, -1e3], [0.3, -0.7, -500.0, -2e3], [0, 0, -1000 / 1.05, -2e3]])
    scaled = scale_conditions(points, [(0.1, 2.0), (0.5, 1.0)])
    torch.testing.assert_close(scaled[:, 2], torch.tensor([-1.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(scaled[:, 3], torch.tensor([1.0, -1.0, -1.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(scale_conditions(points[:, :2], []), points[:, :2])
    torch.testing.assert_close(scaled[:2, :2], torch.tensor([[0.3, -0.7]] * 2))


def test_log_variances_are_clamped():
    model = CVAE(SMALL)
    with torch.no_grad():
        model.prior_network.mlp.head.bias.fill_(1e3)
        assert model.prior(points(3, SMALL)).logvar.max() == 10
        model.prior_network.mlp.head.bias.fill_(-1e3)
        assert model.prior(points(3, SMALL)).logvar.min() == -10


@pytest.mark.parametrize("config", [SMALL, DEEP])
def test_training_starts_near_zero_kl_and_every_parameter_learns(config):
    torch.manual_seed(0)
    model, kernels, at = CVAE(config), constrain(torch.randn(6, 2, 7, 7)), points(6, config)
    terms = model(kernels, at, torch.randn(6, 5), torch.stack([at[:3], at[3:]]))
    assert [tuple(term.shape) for term in (terms.mse, terms.kl, terms.smooth)] == [(6,), (6, 5), (3,)]
    assert terms.elements == 2 * 7 * 7
    assert terms.kl.sum(dim=1).max() < 0.1
    loss = terms.mse.sum() + terms.kl.sum() + terms.smooth.sum()
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, list(model.parameters())))


@pytest.mark.parametrize(("term", "expected"), [("mu", "mu"), ("kl", "kl"), ("output", "output")])
def test_smoothness_terms(term, expected):
    torch.manual_seed(0)
    model = CVAE(SMALL)
    torch.nn.init.normal_(model.prior_network.mlp.head.weight)  # a prior that varies over the field
    a, b = points(4, SMALL), points(4, SMALL)
    smooth = model(constrain(torch.randn(2, 2, 7, 7)), a[:2], torch.randn(2, 5), torch.stack([a, b]), term).smooth
    p, q = model.prior(a), model.prior(b)
    values = {
        "mu": (p.mu - q.mu).square().sum(dim=1),
        "kl": torch.distributions.kl_divergence(
            torch.distributions.Normal(p.mu, (p.logvar / 2).exp()),
            torch.distributions.Normal(q.mu, (q.logvar / 2).exp()),
        ).sum(dim=1),
        "output": (model.predict(a) - model.predict(b)).square().sum(dim=(1, 2, 3)),
    }
    torch.testing.assert_close(smooth, values[expected])


def test_prediction_is_the_decoded_prior_mean_and_samples_scatter_about_it():
    torch.manual_seed(0)
    model, at = CVAE(SMALL), points(3, SMALL)
    torch.testing.assert_close(model.predict(at), model.decode(model.prior(at).mu, at))
    draws = [model.sample(at, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    torch.testing.assert_close(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("points", "got"), [(torch.zeros(4, 2), r"shape \(4, 2\)"), (torch.zeros(4), r"shape \(4,\)"), ([[0.0]], "list")]
)
def test_points_of_another_kind_are_refused(points, got):
    with pytest.raises(ValueError, match=rf"a tensor of points \[N, 4\]: x, y, depth_mm, focus_mm; but got {got}"):
        CVAE(DEEP).predict(points)


def test_points_in_double_precision_will_do():
    model, at = CVAE(SMALL), points(3, SMALL)
    torch.testing.assert_close(model.predict(at.double()), model.predict(at))
