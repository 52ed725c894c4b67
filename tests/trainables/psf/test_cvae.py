"""The model: constraints, sizes, conditions, networks and priors."""

import json
from dataclasses import fields
from typing import Any, get_args

import pytest
import torch

from tests.trainables.psf.synthetic import blobs, grid
from trainables.exports import export, load_model
from trainables.networks.mlp import FourierEncoding, constrain, scale_conditions
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.metrics import centroid
from trainables.psf.principal import Components
from trainables.psf.trial import CvaePsfTrial
from trainables.psf.turning import Turned

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


def test_defocus_is_a_condition_even_in_vergence():
    """Of depths of 0.1 to 2 1/m and focus distances of 0.5 to 1: from -0.9 to 1.5."""
    ranges = {"depth_mm": (0.1, 2.0), "focus_mm": (0.5, 1.0)}
    sizes: dict[str, Any] = {"latent_dim": 5, "hidden_dim": 16, "num_layers": 2, "fourier_bands": 0}
    plain, model = (CVAE(CvaeConfig(2, 7, ranges, **sizes, defocus=one)) for one in (False, True))
    vergences = torch.tensor([[0.1, 1.0], [2.0, 0.5], [0.8, 0.5], [1.0, 0.7]])
    points = torch.cat([torch.zeros(4, 2), -1000 / vergences], dim=1)
    code = model.condition(points)
    torch.testing.assert_close(code[:, :-1], plain.condition(points))
    torch.testing.assert_close(code[:, -1], torch.tensor([-1.0, 1.0, 0.0, 0.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("ranges", "counted"), [({}, False), ({"depth_mm": (0.1, 2.0)}, False), (DEEP.diopter_ranges, True)]
)
def test_there_is_defocus_only_where_both_distances_vary(ranges, counted):
    trial = CvaePsfTrial(defocus=True)
    assert CvaeConfig.of(trial, channels=2, kernel_px=7, diopter_ranges=ranges).defocus == counted


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


RANGES = {"depth_mm": (0.1, 2.0)}
SIDE, LATENT = 16, 5
KINDS = ("mlp", "conv", "basis", "turned")
PRIORS = get_args(CvaePsfTrial.model_fields["prior"].annotation)


def build(kind: str, prior: str = "learned", **changes: Any) -> CVAE:
    """A small model of each network in evaluation mode; "turned" is `basis` of the meridional frame, on a wide sensor."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"network": "basis" if kind == "turned" else kind, "prior": prior, "components": 6}
    sizes: dict[str, Any] = {"latent_dim": LATENT, "hidden_dim": 16, "num_layers": 2, "encoder_layers": 1}
    trial = CvaePsfTrial(**(options | sizes | {"fourier_bands": 2, "base_width": 4} | changes))
    turned = Turned(trace_px=SIDE, aspect=0.5) if kind == "turned" else None
    at = grid(5)
    if turned is not None:
        at[:, 1] = 0
    basis = Components.fit(torch.from_numpy(blobs(at, 2 * SIDE if turned else SIDE)), mirrored=turned is not None)
    config = CvaeConfig.of(trial, channels=2, kernel_px=SIDE, diopter_ranges=RANGES, basis=basis, turned=turned)
    return CVAE(config, basis if trial.network == "basis" else None).eval()


def at_depths(*xy: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([[x, y, -1000.0] for x, y in xy])


def seen(model: CVAE, count: int) -> torch.Tensor:
    """What the networks see of kernels."""
    torch.manual_seed(1)
    if model.config.network == "basis":
        return torch.randn(count, model.config.components)
    return constrain(torch.randn(count, 2, SIDE, SIDE))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_predicts_kernels_of_unit_sum_that_vary_smoothly_with_the_point(kind, prior):
    model, at = build(kind, prior), at_depths((0.3, -0.7), (-1.0, 1.0), (0.0, 0.0)).requires_grad_()
    kernels = model.predict(at)
    assert kernels.shape == (3, 2, SIDE, SIDE)
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum(dim=(-2, -1)), torch.ones(3, 2))
    (gradient,) = torch.autograd.grad(centroid(kernels).square().sum(), at)
    assert gradient.isfinite().all()  # in the sensor's centre, too
    assert gradient[:, :2].abs().sum() > 0
    torch.testing.assert_close(model.predict(at), model.decode(model.prior(at).mu, at))


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_encodes_decodes_and_learns(kind, prior):
    model, at = build(kind, prior).train(), torch.cat([torch.rand(6, 2) * 2 - 1, torch.full((6, 1), -1e3)], dim=1)
    values = seen(model, 6)
    posterior, wanted = model.encode(values, at), model.prior(at)
    assert posterior.mu.shape == posterior.logvar.shape == wanted.mu.shape == wanted.logvar.shape == (6, LATENT)
    assert model.decode(posterior.mu, at).shape == (6, 2, SIDE, SIDE)
    assert model.sample(at).shape == (6, 2, SIDE, SIDE)
    if prior == "standard":
        assert wanted.mu.eq(0).all()
        assert wanted.logvar.eq(0).all()
    terms = model(values, at, torch.randn(6, LATENT), torch.stack([at[:3], at[3:]]))
    assert [tuple(term.shape) for term in (terms.mse, terms.kl, terms.smooth)] == [(6,), (6, LATENT), (3,)]
    assert terms.elements == values[0].numel()
    loss = terms.mse.sum() + terms.kl.sum() + terms.smooth.sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_predicts_the_same_bits_when_it_is_read_again(tmp_path, kind, prior):
    model, at = build(kind, prior, decoder_variance="learned"), at_depths((0.3, -0.7), (-0.2, 0.1))
    again = CvaeConfig.from_dict(json.loads(json.dumps(model.config_dict)))
    assert again == model.config
    export(model, "cvae_psf", tmp_path / "model")
    read = load_model(tmp_path / "model")
    assert isinstance(read, CVAE)
    assert torch.equal(read.predict(at), model.predict(at))
    values = seen(model, 2)
    assert torch.equal(read.encode(values, at).mu, model.encode(values, at).mu)


def test_a_config_of_before_there_were_networks_is_that_of_linear_layers():
    model = build("mlp", encoder_layers=0)
    old = {"channels", "kernel_px", "diopter_ranges", "latent_dim", "hidden_dim", "num_layers", "fourier_bands"}
    assert old < {field.name for field in fields(CvaeConfig)}
    config = CvaeConfig.from_dict({name: value for name, value in model.config_dict.items() if name in old})
    read = CVAE(config).eval()
    read.load_state_dict(model.state_dict())
    at = at_depths((0.3, -0.7))
    assert torch.equal(read.predict(at), model.predict(at))


def test_kernels_of_the_meridional_frame_turn_with_their_points():
    """A quarter turn on the sensor, whose height is half its width."""
    model = build("turned")
    right, up, left = model.predict(at_depths((0.4, 0.0), (0.0, 0.8), (-0.4, 0.0)))
    torch.testing.assert_close(up, torch.rot90(right, dims=(-2, -1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(left, right.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(right, right.flip(-2), atol=1e-5, rtol=0)
    assert centroid(right[None])[0, 0, 0].abs() > 1e-3


def test_a_model_has_no_more_components_than_were_found():
    config = build("basis", components=200).config
    assert config.components == 24  # of 25 kernels
    assert config.samples == 2 * SIDE**2
