"""What a decoder leaves of a unit's light: tilts of kernels, their distribution, and units that are drawn with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainables.asbuilt.synthetic import CHANNELS, SIDE
from tests.trainables.asbuilt.test_fitting import gaussians
from tests.trainables.asbuilt.test_learner import LEARNER, trained
from trainables.asbuilt import residuals
from trainables.asbuilt.quantities import centroid, rms_radius
from trainables.asbuilt.residuals import FieldNoise, LightResiduals, amounts_between, spread_light
from trainables.exports import export, load_model

ALONG = np.stack([np.linspace(-0.9, 0.9, 5), np.linspace(0.9, -0.9, 5)], axis=1)


@pytest.fixture
def lopsided():
    """[3, K, K] of unit sum, wider and narrower, none symmetric."""
    both = gaussians([1.5, 2.5, 4.0]) + 0.5 * gaussians([1.0, 2.0, 3.0], shift=3.0).mT
    return (both / both.sum(dim=(-2, -1), keepdim=True))[:, 0]


def test_a_tilt_widens_and_keeps_light_and_centroid(lopsided):
    none, wider, narrower = (spread_light(lopsided, torch.tensor([far, 0.0])) for far in (0.0, 0.1, -0.1))
    torch.testing.assert_close(none, lopsided)
    assert (rms_radius(wider[:, None]) > rms_radius(lopsided[:, None])).all()
    assert (rms_radius(narrower[:, None]) < rms_radius(lopsided[:, None])).all()
    for tilted in (wider, narrower):
        assert tilted.min() >= 0
        torch.testing.assert_close(tilted.sum(dim=(-2, -1)), torch.ones(3))
        moved = (centroid(tilted[:, None]) - centroid(lopsided[:, None])).abs().max()
        assert moved < 0.1 * (rms_radius(tilted[:, None]) - rms_radius(lopsided[:, None])).abs().max()


def test_the_amounts_of_a_tilt_are_found_again(lopsided, monkeypatch):
    amounts = torch.tensor([[0.2, -0.3], [-0.1, 0.4], [0.05, 0.1]], dtype=torch.float64)
    tilted = spread_light(lopsided.double(), amounts)
    drawn_to_zero = amounts_between(lopsided.double(), tilted)
    assert (drawn_to_zero.norm(dim=1) < amounts.norm(dim=1)).all()
    monkeypatch.setattr(residuals, "TRUST", 1e-9)
    torch.testing.assert_close(amounts_between(lopsided.double(), tilted), amounts, atol=1e-4, rtol=0)


def test_a_kernel_without_light_about_its_core_has_finite_amounts(lopsided):
    dark = torch.zeros(1, 9, 9)
    dark[0, 4, 4] = 1
    assert torch.isfinite(amounts_between(dark, lopsided[:1, 16:25, 16:25])).all()


def test_a_distribution_that_is_known_is_measured():
    """Amounts of mean 0.1 h and of standard deviation 0.2 exp(h / 4), h normal, that correlate by 0.6 and over the field as exp(-2 distance)."""
    generator = torch.Generator().manual_seed(0)
    units, places = 300, 2 * torch.rand(300, 16, 2, generator=generator) - 1
    hidden = torch.randn(units, 16, 10, generator=generator)  # 1 and 9 facts of a kernel
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
    distance = (places[:, :, None] - places[:, None]).square().sum(dim=-1).sqrt()
    root = torch.linalg.cholesky((-2 * distance).exp() + 1e-5 * torch.eye(16))
    standard = root @ torch.randn(units, 16, 2, generator=generator) @ factor.mT
    told = hidden[..., :1]
    amounts = 0.1 * told + 0.2 * (told / 4).exp() * standard
    known = LightResiduals(1, 1)
    known.measure(hidden, places, amounts)
    assert known.measured
    ask = torch.tensor([-1.0, 0.0, 1.0])[:, None] * torch.eye(10)[0]
    torch.testing.assert_close(known(ask, torch.zeros(3, 2))[:, 0, 0], torch.tensor([-0.1, 0, 0.1]), atol=0.02, rtol=0)
    drawn = known(ask.expand(4000, -1, -1), torch.randn(4000, 3, 2, generator=generator))[:, :, 0]
    expected = 0.2 * (ask[:, 0] / 4).exp()
    torch.testing.assert_close(drawn.std(dim=0).mean(dim=1), expected, rtol=0.1, atol=0)
    assert float(torch.corrcoef(drawn[:, 1].mT)[0, 1]) == pytest.approx(0.6, abs=0.06)
    assert float(known.reach) == pytest.approx(0.5, abs=0.15)


def test_noise_over_the_field_is_standard_and_correlates_as_it_should():
    noise = FieldNoise.draw(6000, 2, 2, torch.Generator().manual_seed(0))
    found = noise.at(torch.tensor([[0.0, 0.0], [0.3, 0.4], [3.0, 4.0]]))
    torch.testing.assert_close(found.var(dim=0), torch.ones(3, 2), atol=0.1, rtol=0)
    matrix = torch.corrcoef(torch.cat([found[..., 0], found[..., 1]], dim=1).mT)
    torch.testing.assert_close(matrix[0, :3], (-torch.tensor([0, 0.5, 5.0])).exp(), atol=0.05, rtol=0)
    assert matrix[:3, 3:].abs().max() < 0.06
    torch.testing.assert_close(noise.at(torch.ones(1, 2), slice(7, 9)), noise.at(torch.ones(1, 2))[7:9])


def test_drawn_units_have_what_the_decoder_leaves(square, data, tmp_path):
    model = trained(data, 200)[0].eval().requires_grad_(False)

    def drawn(model, at=ALONG):
        return model.sample_units(60, torch.Generator().manual_seed(0)).predict(at)

    before = drawn(model)
    torch.testing.assert_close(before, model.decode(model.draw_units(60, torch.Generator().manual_seed(0)), _at(60)))
    LEARNER.complete(model, square)
    kernels = drawn(model)
    assert kernels.shape == before.shape == (60, 5, CHANNELS, SIDE, SIDE)
    assert not torch.allclose(kernels, before, atol=1e-3)
    torch.testing.assert_close(kernels.sum(dim=(-2, -1)), torch.ones(60, 5, CHANNELS))
    torch.testing.assert_close(
        drawn(model, ALONG[3:]), kernels[:, 3:]
    )  # a unit is the same wherever else it is looked at
    export(model, "cvae_asbuilt", tmp_path)
    torch.testing.assert_close(drawn(load_model(tmp_path)), kernels)
    LEARNER.complete(model, square)
    assert torch.equal(drawn(model), kernels)


def _at(units):
    return torch.from_numpy(ALONG).float().expand(units, -1, -1)
