"""What a user does with a model of units: fit one to measured PSFs, draw many, read numbers off kernels."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from spaces import store
from tests.trainables.asbuilt.synthetic import CHANNELS, SIDE, kernels_of
from tests.trainables.asbuilt.test_learner import LEARNER, SMALL, trained
from tests.trainables.psf.test_model import optics
from trainables.asbuilt import quantities
from trainables.asbuilt.data import AsBuiltTensors, observed
from trainables.asbuilt.population import Share
from trainables.asbuilt.quantities import asymmetry, lp_per_mm, mtf50, rms_radius
from trainables.asbuilt.set_facts import SetFacts
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.psf.metrics import relative_l2

INNER = [6, 7, 8, 11, 12, 13, 16, 17, 18]
"""Of the 25 positions those away from the edge, where these small windows cut off light."""
PLACES = np.array([[0.0, 0.0], [0.5, -0.9], [-1.0, 1.0]])


@pytest.fixture(scope="module")
def model(data):
    return trained(data, 400)[0].eval().requires_grad_(False)  # as `load_model` gives it


@pytest.fixture(scope="module")
def split(data):
    return data.validation


def gaussians(widths, side=41, shift=0.0):
    """[N, 1, K, K] of standard deviations in pixels."""
    axis = torch.arange(side) - (side - 1) / 2
    square = (axis[None, :] - shift).square() + axis[:, None].square()
    kernels = torch.stack([torch.exp(-0.5 * square / width**2) for width in widths])[:, None]
    return kernels / kernels.sum(dim=(-2, -1), keepdim=True)


def test_numbers_of_gaussians_are_those_of_their_formulas():
    widths = torch.tensor([0.8, 1.5, 3.0, 5.0])
    kernels = gaussians(widths)
    expected = math.sqrt(math.log(2) / 2) / (math.pi * widths)
    for along in ("all", "x", "y"):
        torch.testing.assert_close(mtf50(kernels, along)[:, 0], expected, rtol=0.01, atol=0)
    torch.testing.assert_close(rms_radius(kernels)[:3, 0], 2**0.5 * widths[:3], rtol=0.02, atol=0)
    assert float(asymmetry(kernels).abs().max()) < 1e-6
    assert float(asymmetry(gaussians([2.0], shift=1.0))) == pytest.approx(math.erf(0.5 / 2**0.5), abs=0.1)
    assert float(asymmetry(gaussians([2.0], shift=1.0), "y")) == pytest.approx(0, abs=1e-6)
    assert float(asymmetry(gaussians([2.0], shift=1.0).mT.flip(-2), "y")) > 0  # up is where rows are low
    torch.testing.assert_close(lp_per_mm(torch.tensor(0.25), 5.0), torch.tensor(50.0))


def test_a_fitted_unit_is_a_model_of_one_lens(model, split, monkeypatch):
    seen = observed(split, 4)
    unit = model.fit(seen.kernels[0], seen.points[0])
    with pytest.raises(ValueError, match="optics"):
        unit.psf_model()
    monkeypatch.setattr(model, "optics", optics(kernel_px=SIDE))
    of_unit = unit.psf_model()
    points = torch.tensor(PLACES, dtype=torch.float32)
    torch.testing.assert_close(of_unit.psf(points), unit.predict(points))
    torch.testing.assert_close(of_unit.sample(points, 0.0), unit.predict(points))
    drawn = [of_unit.sample(points, 1.0, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_lines_blur_most_across_a_wide_kernel_and_a_point_passes_every_frequency():
    wide = gaussians([1.5]) + gaussians([1.5]).roll(4, dims=-1)
    assert bool((mtf50(wide, "x") < mtf50(wide, "y")).all())
    point = torch.zeros(2, 3, 7, 7)
    point[..., 3, 3] = 1
    assert torch.equal(mtf50(point), torch.full((2, 3), 0.5))


def test_a_fitted_unit_is_nearer_than_the_mean_one_and_knows_its_error(model, split):
    away = split.held_out
    errors, expected, means = [], [], []
    for kernels, points, true, at in zip(*observed(split, 4).parts[:2], *away.parts[:2], strict=True):
        unit = model.fit(1000 * kernels.numpy(), points.numpy())
        errors.append(relative_l2(unit.predict(at), true))
        expected.append(unit.spread(at))
        means.append(relative_l2(model.decode(model.prior.mu, at[None])[0], true))
    error, spread, mean = (float(torch.cat(one).mean()) for one in (errors, expected, means))
    assert error < 0.8 * mean
    assert 0.5 < spread / error < 2


def test_predictions_draws_and_intervals_belong_together(model, split):
    unit = model.fit(split.kernels[0, :9], split.points[0, :9])
    torch.testing.assert_close(unit.predict(PLACES).sum(dim=(-2, -1)), torch.ones(3, CHANNELS))
    drawn = unit.draw(PLACES, 7, torch.Generator().manual_seed(1))
    assert drawn.shape == (7, 3, CHANNELS, SIDE, SIDE)
    assert torch.equal(drawn, unit.draw(PLACES, 7, torch.Generator().manual_seed(1)))
    assert torch.equal(unit.spread(PLACES), unit.spread(PLACES))
    for quantity in ("mtf50", rms_radius):
        narrow, wide = (unit.interval(PLACES, quantity, level) for level in (0.5, 0.95))
        assert wide.low.shape == (3, CHANNELS)
        assert bool((wide.low <= narrow.low).all())
        assert bool((narrow.low <= wide.median).all() & (wide.median <= narrow.high).all())
        assert bool((narrow.high <= wide.high).all())
    with pytest.raises(ValueError, match=r"unknown quantity .mtf.; valid: rms_radius, mtf50, asymmetry"):
        unit.interval(PLACES, "mtf")
    with pytest.raises(ValueError, match=r"0 < level < 1"):
        unit.interval(PLACES, "mtf50", level=90)


def test_brightness_order_and_kind_of_array_do_not_matter(model, split):
    kernels, points = split.kernels[0, :6], split.points[0, :6]
    mu = model.fit(kernels, points).posterior.mu
    bright = kernels * torch.rand(6, CHANNELS, 1, 1) * 1e4
    for same in (
        model.fit(bright.numpy().astype(np.float64), points.tolist()),
        model.fit(kernels.flip(0), points.flip(0)),
        model.fit(kernels.flip(1), points, channels=[1, 0]),
    ):
        torch.testing.assert_close(same.posterior.mu, mu, rtol=1e-3, atol=1e-4)


def test_colours_that_were_not_measured_are_filled_in(model, split):
    away = split.held_out
    errors = dict.fromkeys(("all", "one", "mean"), 0.0)
    for index in range(len(split)):
        seen, at, true = split.kernels[index, INNER], away.points[index], away.kernels[index]
        points = split.points[index, INNER]
        errors["all"] += float(relative_l2(model.fit(seen, points).predict(at), true).mean())
        errors["one"] += float(relative_l2(model.fit(seen[:, 1:], points, [1]).predict(at), true).mean())
        errors["mean"] += float(relative_l2(model.decode(model.prior.mu, at[None])[0], true).mean())
    assert errors["one"] < 1.3 * errors["all"] < errors["mean"]


def test_kernels_of_units_are_told_from_those_of_none(model, split):
    """Units that the model has not seen, with noise and in one colour too; then exchanged colours, one far from all, no lens."""
    rng, points = np.random.default_rng(0), split.points[0, INNER].numpy()
    for index in range(len(split)):
        seen = split.kernels[index, INNER].numpy()
        noise = rng.normal(size=seen.shape) * 0.05 * np.sqrt(np.square(seen).mean(axis=(1, 2, 3), keepdims=True))
        fits = model.fit(seen, points), model.fit(seen + noise, points), model.fit(seen[:, 1:], points, [1])
        assert not any(unit.misfit.suspicious for unit in fits)
        assert fits[0].misfit.error == pytest.approx(
            float(relative_l2(fits[0].predict(points), fits[0].measured).mean()), rel=1e-5
        )
        assert model.fit(seen[:, ::-1], points).misfit.suspicious
    far = kernels_of(np.array([0.0, 9.0, 0.0]), points)
    spots = gaussians([0.7], side=SIDE).expand(len(points), CHANNELS, -1, -1)
    assert model.fit(far, points).misfit.suspicious
    assert model.fit(spots, points).misfit.suspicious


def spoilt(kernels, **changes):
    """Kernels with numbers put into the second one's first channel, by place."""
    made = np.array(kernels, dtype=np.float32)
    for place, value in changes.items():
        made[1, 0][tuple(slice(None) if one == "a" else int(one) for one in place.strip("_").split("_"))] = value
    return made


REFUSALS = [
    (lambda k, p: (k[:, 0], p), "kernels must be [n, 2, 12, 12], of 12 x 12 pixels of 5 um each, but got [4, 12, 12]"),
    (lambda k, p: (k[:, :1], p), "kernels must be [n, 2, 12, 12]"),
    (lambda k, p: (k[..., 1:-1, 1:-1], p), "kernels must have 12 x 12 pixels of 5 um, but got 10 x 10"),
    (lambda k, p: (np.tile(k, (7, 1, 1, 1)), np.tile(p, (7, 1))), "1 to 25 kernels, but got 28"),
    (lambda k, p: (k, p[:3]), "4 kernels and 3 points"),
    (lambda k, p: (k, p[[0, 1, 2, 0]]), "kernels[0] and kernels[3] are of the same point (-0.45, -0.45)"),
    (lambda k, p: (k[:0], p[:0]), "there are no points"),
    (lambda k, p: (k, np.hstack([p, p])), "points must be [M, 2], x and y of each, but got [4, 4]"),
    (lambda k, p: (k, 3 * p), "points[0]: x and y must lie in [-1, 1], but got (-1.35, -1.35)"),
    (lambda k, p: (k, p * np.nan), "points[0]: x and y must lie in [-1, 1]"),
    (lambda k, p: (spoilt(k, _5_5=np.nan), p), "kernels[1, 0] at (0.45, -0.45): 1 pixels are not finite"),
    (lambda k, p: (spoilt(k, a_a=0), p), "kernels[1, 0] at (0.45, -0.45): no light: its pixels' sum is 0"),
    (lambda k, p: (k - 0.002, p), "it stands on a pedestal of -"),
    (lambda k, p: (spoilt(k, _5_a=1), p), "12 pixels share its largest value, 1: saturated"),
    (lambda k, p: (np.roll(k, 4, axis=-1), p), "pixels right and"),
]


@pytest.mark.parametrize(("change", "words"), REFUSALS, ids=[words for _, words in REFUSALS])
def test_kernels_of_no_unit_are_refused_in_a_line(data, square, change, words):
    kernels, points = observed(data.validation, 4).parts[:2]
    sampled = AsBuiltTensors(data._train, data.validation, data.device, SetFacts(5.0))
    model = LEARNER.build(AsBuiltTrial(**SMALL), sampled)
    with pytest.raises(ValueError, match=r"kernel|points") as refused:
        model.fit(*change(kernels[0].numpy(), points[0].numpy()))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("channels", [[], [0, 0], [2], [-1]])
def test_channels_are_those_of_the_model(model, split, channels):
    with pytest.raises(ValueError, match="channels must be different ones"):
        model.fit(split.kernels[0, :1, : len(channels)], split.points[0, :1], channels)


def test_a_unit_is_the_same_wherever_its_kernels_were_cut(model, split):
    points, rng = split.points[0, :9], np.random.default_rng(0)
    unit = split.units[0].numpy()
    away = split.held_out.points[0]
    cut = kernels_of(unit, points.numpy(), displaced=rng.uniform(-0.5, 0.5, (9, 2)))
    centred = model.fit(split.kernels[0, :9], points).predict(away)
    with torch.no_grad():
        as_cut = model.predict(torch.from_numpy(cut)[None], points[None], away[None])[0]
    errors = [float(relative_l2(one, centred).mean()) for one in (model.fit(cut, points).predict(away), as_cut)]
    assert errors[0] < 0.03
    assert errors[0] < errors[1] / 4


def test_units_are_drawn_by_seed_and_measured(model):
    units = model.sample_units(50, torch.Generator().manual_seed(3))
    kernels = units.predict(PLACES)
    assert kernels.shape == (50, 3, CHANNELS, SIDE, SIDE)
    assert torch.equal(kernels, model.sample_units(50, torch.Generator().manual_seed(3)).predict(PLACES))
    torch.testing.assert_close(units.rms_radius(PLACES), rms_radius(kernels))
    torch.testing.assert_close(units.measure(PLACES, quantities.asymmetry), asymmetry(kernels))
    with pytest.raises(ValueError, match="does not know the size of its pixels"):
        units.share_above(PLACES, lp_per_mm=40)
    with pytest.raises(ValueError, match="one unit is no population"):
        model.sample_units(1)


def test_the_yield_is_the_share_that_is_good_everywhere(data):
    model = LEARNER.build(AsBuiltTrial(**SMALL), data)
    model.config = model.config.__class__(**model.config_dict | {"pixel_um": 5.0})
    units = model.sample_units(40, torch.Generator().manual_seed(0))
    worst = lp_per_mm(units.mtf50(PLACES)[..., 1].amin(dim=1), 5.0)
    limit = float(worst.sort().values[10:12].mean())
    found = units.share_above(PLACES, limit, channel=1)
    assert found.share == pytest.approx(29 / 40)
    assert found.low < found.share < found.high
    assert units.share_above(PLACES, lp_per_mm=limit) == found  # the middle channel
    for beyond in (100.0, -1.0, math.nan):  # half a cycle per pixel of 5 um is 100 line pairs per mm
        with pytest.raises(ValueError, match="below 100 lp/mm"):
            units.share_above(PLACES, beyond)


def test_an_interval_of_a_share_is_wilson_s():
    """Of 0 of 10 and 5 of 10 (Brown, Cai & DasGupta 2001, formula 4)."""
    assert Share.of(0, 10) == pytest.approx((0, 0, 0.2775), abs=1e-4)
    assert Share.of(5, 10) == pytest.approx((0.5, 0.2366, 0.7634), abs=1e-4)


def test_a_model_knows_the_pixels_and_wavelengths_of_its_data(data, tmp_path):
    made = {
        "pixel_pitch_um": 3.2,
        "trace_px": 64,
        "kernel_px": 32,
        "channels": [[[0.656, 1.0]], [[0.55, 1.0], [0.59, 3.0]]],
        "units": {"centred": True, "sensor_mm": [20, 19]},
    }
    points = np.array([[0, 0, -1e4, -2000], [0.5, 0, -1e4, -3000]], np.float32)
    entry = store.write(tmp_path, made, {"units": np.zeros(1), "points": points})
    facts = SetFacts.of(entry)
    assert facts == SetFacts(6.4, (0.656, 0.58), {"depth_mm": -1e4}, centred=True)
    assert SetFacts.of(tmp_path) == SetFacts()
    known = AsBuiltTensors(data._train, data.validation, data.device, facts)
    model = LEARNER.build(AsBuiltTrial(**SMALL), known)
    again = LEARNER.rebuild(json.loads(json.dumps(model.config_dict)))
    assert again.config == model.config
    assert SetFacts(again.config.pixel_um, again.config.wavelengths, again.config.distances_mm, True) == facts
    before = {
        key: value for key, value in model.config_dict.items() if key not in ("pixel_um", "wavelengths", "distances_mm")
    }
    assert LEARNER.rebuild(before).config.wavelengths == ()
