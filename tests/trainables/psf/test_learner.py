"""Training on kernels of the meridional frame, of a real lens: what is learned is turned to where it is judged."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from spaces.system import system
from tests.trainables.psf.meridional import meridional, prepared, turned
from tests.trainables.psf.synthetic import model_of, newest, state_of
from tests.trainables.training.small import LEARNER, METRIC, task, trained, untimed
from trainables.psf.metrics import evaluate, relative_l2
from trainables.psf.pictures import psf_image
from trainables.psf.trial import CvaePsfTrial
from trainables.psf.turning import Turning
from trainables.training import saving

NETWORKS: dict[str, dict[str, Any]] = {
    "basis": {"network": "basis", "components": 16, "recon_scale": 10.0, "learning_rate": 1e-2},
    "mlp": {"network": "mlp", "prior": "standard"},
    "conv": {"network": "conv", "base_width": 4, "prior": "standard"},
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def coarse(cache):
    """Sets of 8 px kernels."""
    return prepared(cache)


@pytest.fixture(scope="module")
def halvable(cache):
    """Sets of 16 px kernels, for convolutions."""
    return prepared(cache, kernel_px=16)


def sets_of(name: str, coarse: dict[str, str], halvable: dict[str, str]) -> dict[str, str]:
    return halvable if name == "conv" else coarse


def test_a_learner_opens_the_train_set_with_how_to_turn_it(coarse):
    data = LEARNER.open(coarse)
    assert data.turned == turned(meridional()[0])
    assert data.train.kernels.shape == (48, 2, 32, 32)
    assert data.validation.kernels.shape == (16, 2, 8, 8)
    assert data.conditions == ("x", "y", "depth_mm")
    assert data.pairs[..., :2].abs().max() == 1  # neighbours on the sensor's grid, whose corner is farther than any x
    assert data.held_back == 4
    test = LEARNER.open_test(coarse)
    assert test.kernels.shape == (8, 2, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_is_of_scores_on_the_axis_or_of_turned_kernels_on_the_sensor(name, coarse, halvable):
    data = LEARNER.open(sets_of(name, coarse, halvable))
    trial = CvaePsfTrial(batch_size=64, smooth_pairs=4, latent_dim=2, **NETWORKS[name])
    drawn = LEARNER.draw(trial, data, torch.Generator().manual_seed(0))
    assert int(drawn[0].max()) < 44  # the last are held back
    values, points, *_ = LEARNER.inputs(trial, data, drawn)
    rows = data.train.points[drawn[0]]
    if name == "basis":
        assert values.shape == (64, 16)
        assert torch.equal(points, rows)
    else:
        side = data.validation.kernels.shape[-1]
        assert values.shape == (64, 2, side, side)
        radius = torch.hypot(points[:, 0], turned(meridional()[0]).aspect * points[:, 1])
        torch.testing.assert_close(radius, rows[:, 0])
        assert points[:, :2].abs().max() <= 1 + 1e-6
        assert torch.equal(points[:, 2], rows[:, 2])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_and_reports_what_is_declared(tmp_path, name, coarse, halvable):
    data = LEARNER.open(sets_of(name, coarse, halvable))
    reports = trained(task(tmp_path, steps=80, every=20, **NETWORKS[name]), data)
    declared = {one for one in system("cvae_psf").metrics if one.startswith(("train/", "val/"))}
    assert set(reports.metrics[80]) == declared - {"train/fresh_share"}
    assert all(torch.tensor(list(metrics.values())).isfinite().all() for metrics in reports.metrics.values())
    best = model_of(newest(tmp_path / "checkpoints", "best"))
    # Read from its file, it is what was judged: components and gathered statistics are in it.
    judged = evaluate(best, data)
    assert judged[METRIC] == pytest.approx(min(metrics[METRIC] for metrics in reports.metrics.values()), rel=1e-5)
    assert {one for one in system("cvae_psf").metrics if one.startswith("val/")} == set(judged)
    assert psf_image(best, data).isfinite().all()


@pytest.mark.parametrize("name", ["basis", "conv"])
def test_resuming_repeats_an_uninterrupted_run_bit_for_bit(tmp_path, name, coarse, halvable, monkeypatch):
    monkeypatch.setattr(saving, "SHARE", math.inf)  # a checkpoint at every report
    sets = sets_of(name, coarse, halvable)
    whole = trained(task(tmp_path / "whole", **NETWORKS[name]), LEARNER.open(sets))
    trained(task(tmp_path / "parts", **NETWORKS[name]), LEARNER.open(sets), stop_at=20)
    second = trained(task(tmp_path / "parts", **NETWORKS[name]), LEARNER.open(sets))
    assert second.steps == [20, 30, 40]
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[one], b[one]) for one in a)
    assert untimed(second.metrics[40]) == untimed(whole.metrics[40])


def test_a_trained_basis_is_far_better_than_its_start_and_than_the_mean(tmp_path, coarse):
    data = LEARNER.open(coarse)
    steps = task(tmp_path, steps=400, every=100, latent_dim=8, **NETWORKS["basis"])
    torch.manual_seed(0)
    start = evaluate(LEARNER.build(CvaePsfTrial.model_validate(steps.trial.model_dump()), data), data)
    found = trained(steps, data).metrics[400]
    assert found[METRIC] < 0.5 * start[METRIC]
    assert found["val/posterior_rel_l2"] < 0.5 * start["val/posterior_rel_l2"]
    mean = data.validation.kernels.mean(dim=0, keepdim=True).expand_as(data.validation.kernels)
    assert found[METRIC] < 0.5 * float(relative_l2(mean, data.validation.kernels).mean())


def test_a_basis_s_posterior_is_judged_on_the_axis_by_kernels_that_no_batch_has(coarse):
    data = LEARNER.open(coarse)
    trial = CvaePsfTrial(latent_dim=4, hidden_dim=8, num_layers=1, **NETWORKS["basis"])
    model = LEARNER.build(trial, data)
    last = slice(-data.held_back, None)
    points = data.train.points[last]
    model.eval()
    with torch.no_grad():
        assert data.turned is not None
        on_axis = Turning(data.turned, 8)(data.train.kernels[last], torch.zeros(len(points)))
        posterior = model.encode(data.basis.scores[last, :16], points)
        expected = relative_l2(model.decode(posterior.mu, points), on_axis).mean()
    model.train()
    assert evaluate(model, data)["val/posterior_rel_l2"] == pytest.approx(float(expected), rel=1e-5)
    assert model.training  # as it was


def test_interpolation_and_the_winner_answer_at_the_same_sealed_positions(coarse):
    test = LEARNER.open_test(coarse)
    winner = LEARNER.build(CvaePsfTrial(latent_dim=4, hidden_dim=8, **NETWORKS["basis"]), LEARNER.open(coarse)).eval()
    judged = LEARNER.judge(winner, test)
    baselines = LEARNER.baselines(coarse, test, winner)
    declared = {one.name for one in system("cvae_psf").baselines}
    assert {"bicubic", "turned", "components"} <= set(baselines) <= declared
    for one in (judged, *baselines.values()):
        assert {name: len(values) for name, values in one.errors.items()} == dict.fromkeys(judged.errors, 8)
