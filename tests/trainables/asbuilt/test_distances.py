"""Depth and focus as conditions of the CVAE of units, on synthetic ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deeplens_workers.asbuilt_data import OBSERVED
from deeplens_workers.asbuilt_preparation import AsBuiltPreparation, tracings, unit_focus
from deeplens_workers.preparation import lens_of
from deeplens_workers.render import load
from deeplens_workers.unit_fit import fit_unit
from tests.deeplens_workers.test_asbuilt_preparation import ONLY_DECENTRES, section
from tests.trainables.asbuilt.synthetic import FAR, mirrored_tolerances
from tests.trainables.asbuilt.test_learner import LEARNER, SMALL, VARIANTS, trained
from trainables.asbuilt.baselines import predict_baselines
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors, observed
from trainables.asbuilt.evaluation import unit_errors
from trainables.asbuilt.figures import sample_figure, unit_figure
from trainables.asbuilt.oracle import oracle
from trainables.asbuilt.system import SYSTEM
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.exports import export, load_model
from trainables.psf.metrics import relative_l2


@pytest.fixture(scope="module")
def data(at_distances):
    return AsBuiltTensors.load(at_distances)


@pytest.fixture(scope="module")
def model(data):
    return trained(data, 400)[0].eval().requires_grad_(False)


def test_a_unit_seen_at_one_distance_is_known_at_others(data, model, at_distances):
    """Better than the mean unit at the same points, and than itself at the distances at which it was observed."""
    seen, away = observed(data.validation, 4), data.validation.held_out
    assert bool((seen.points[..., 2:] == FAR).all())
    assert float(away.points[..., 2:].std(dim=(0, 1)).min()) > 100
    lens = AsBuiltSplit.of(at_distances, "nominal")
    alone = AsBuiltSplit.of(at_distances, "effects")
    nominal = predict_baselines(lens, alone, data.validation, data.validation)["nominal"].errors["rel_l2"].mean()
    there = away.points.clone()
    there[..., 2:] = FAR
    errors = [
        float(unit_errors(model.predict(seen.kernels, seen.points, at), away.kernels).mean())
        for at in (away.points, there)
    ]
    assert errors[0] < 0.9 * float(nominal)
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.slow
def test_a_model_of_two_depths_is_trained_and_predicts_at_another_than_it_was_fitted_at(tmp_path):
    tolerances = ONLY_DECENTRES | {"decentre_um": 0, "elements": {2: {"decentre_um": 40}}}
    work, data = AsBuiltPreparation(), section(depths_mm=(-1e4, -1e3), tolerances=tolerances)
    source = work.find(data)
    data = work.resolved(data, source)
    sets = work.prepare(data, source, 0, tmp_path, 0).sets
    assert json.loads(sets["distances"]) == {"depth_mm": [-1e4, -1e3]}
    kernels, points, values = (np.load(f"{sets['test']}/{name}.npy") for name in ("kernels", "points", "units"))
    renderer, tracing, seen = load(lens_of(source), data.pixel_pitch_um), tracings(data)[1], list(OBSERVED[4])
    fitted = fit_unit(renderer, data.tolerances, unit_focus(data), points[seen], kernels[seen], tracing, evaluations=6)
    np.testing.assert_allclose(fitted, values[0], atol=0.1)

    model, _ = trained(AsBuiltTensors.load(sets), 3)
    unit = model.eval().fit(kernels[seen], points[seen])
    assert unit.predict(points[25:27]).shape == (2, 1, 16, 16)
    assert not torch.equal(*unit.predict([[0, 0, -1e4], [0, 0, -1e3]]))


@pytest.mark.parametrize("changed", VARIANTS, ids=str)
def test_every_variant_trains_with_distances(data, changed):
    found, values = trained(data, 3, **changed)
    assert all(bool(torch.isfinite(value)) for value in values.values())
    assert set(SYSTEM.measured) <= set(LEARNER.evaluate(found, data))


def test_distances_are_scaled_in_diopters_and_not_mirrored(data):
    model = LEARNER.build(AsBuiltTrial(**SMALL), data)
    assert model.config.conditions == ("x", "y", "depth_mm", "focus_mm")
    points = torch.tensor([[[0.5, -0.2, FAR, FAR], [0.5, -0.2, -1000, -2000], [0.5, -0.2, -1000 / 0.55, -1000 / 0.3]]])
    scaled = model.condition(points)[0, :, 2:4]
    torch.testing.assert_close(scaled, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]]), atol=1e-5, rtol=0)
    turned = data.mirrors.turned(points.expand(8, -1, -1), torch.arange(8))
    assert torch.equal(turned[..., 2:], points[..., 2:].expand(8, -1, -1))
    assert len({tuple(one.tolist()) for one in turned[:, 0, :2]}) == 8


def test_neighbours_of_targets_have_their_distances(data):
    trial = AsBuiltTrial(**SMALL, smooth_weight=1.0)
    *_, targets_at, _, neighbours = LEARNER.inputs(
        trial, data, LEARNER.draw(trial, data, torch.Generator().manual_seed(0))
    )
    assert torch.equal(neighbours[:, 2:], targets_at[:, 0, 2:])
    assert not torch.equal(neighbours[:, :2], targets_at[:, 0, :2])


def test_baselines_judge_at_the_same_distances_or_not_at_all(data, at_distances):
    """The nominal lens is a unit without errors: at every distance nothing is left to correct."""
    lens = AsBuiltSplit.of(at_distances, "nominal")
    rows = [*range(25), *range(25, 31)]
    itself = AsBuiltSplit(lens.kernels[:, rows], lens.points[:, rows], lens.units)
    found = predict_baselines(lens, AsBuiltSplit.of(at_distances, "effects"), data.validation, itself)
    assert set(found) == {"nominal", "corrected", "linear"}
    for one in found.values():
        assert float(one.errors["rel_l2"].max()) < 1e-5


@pytest.mark.slow
def test_finals_pictures_and_the_oracle_take_distances(data, model, at_distances):
    test = LEARNER.open_test(at_distances)
    judged = LEARNER.judge(model, test)
    assert judged.errors["rel_l2"].shape == (len(test.units),)
    told = oracle(data, test.units, model, 1e-9, mirrored_tolerances(data.mirrors.turns), least_steps=2)
    assert told.errors["rel_l2"].shape == (len(test.units),)
    unit_figure(model, test)
    sample_figure(model, test)


def test_an_export_keeps_its_ranges_and_one_without_them_is_read(data, model, tmp_path):
    export(model, SYSTEM.name, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    before = {key: value for key, value in config.items() if key != "diopter_ranges"}
    assert LEARNER.rebuild(before).config.conditions == ("x", "y")


def test_fit_and_predict_take_distances_in_mm(data, model):
    seen, away = observed(data.validation, 4), data.validation.held_out
    unit = model.fit(seen.kernels[0].numpy(), seen.points[0].tolist())
    at = away.points[0].numpy()
    assert float(relative_l2(unit.predict(at), away.kernels[0]).mean()) < 0.5
    assert unit.interval(at, "mtf50").median.shape == (6, 2)
    ends = [[0, 0, FAR, -2000], [0, 0, -1000, FAR]]
    assert model.sample_units(3).mtf50(ends).shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([[0, 0]], "points must be [M, 4], x, y, depth_mm and focus_mm of each, but got [1, 2]"),
        ([[0, 0, -5000, -5000], [0, 0, -900, -5000]], "points[1]: depth_mm must lie in [-10000, -1000], but got -900"),
        ([[0, 0, -5000, -1000]], "points[0]: focus_mm must lie in [-10000, -2000], but got -1000"),
        ([[0, 0, 5000, -5000]], "points[0]: depth_mm must lie in [-10000, -1000], but got 5000"),
        ([[0, 0, float("nan"), -5000]], "points[0]: depth_mm must lie in [-10000, -1000], but got nan"),
        ([[0, 2, -5000, -5000]], "points[0]: x and y must lie in [-1, 1], but got (0, 2)"),
    ],
)
def test_distances_that_the_model_does_not_know_are_refused_in_a_line(data, model, points, words):
    seen = data.validation.kernels[0, : len(points)]
    for use in (lambda: model.fit(seen, points), lambda: model.sample_units(2).predict(points)):
        with pytest.raises(ValueError, match="points") as refused:
            use()
        assert str(refused.value) == words
