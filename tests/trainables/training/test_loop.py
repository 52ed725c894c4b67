"""The training loop: it learns, reports what the system declares, keeps the best, can be stepped, and fails loudly."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from spaces.system import system
from tests.trainables.psf.synthetic import model_of, newest, tensors
from tests.trainables.training.small import LEARNER, METRIC, task, trained, untimed
from trainables.psf.cvae import CVAE
from trainables.psf.interpolation import predict_baseline
from trainables.psf.metrics import evaluate, kernel_metrics
from trainables.training.checkpoints import load_checkpoint
from trainables.training.loop import NonFiniteError, train


def test_a_trial_learns_far_beyond_nearest_neighbour(tmp_path):
    data = tensors(tmp_path / "data", side=10)
    trial = task(tmp_path, steps=600, every=100, fourier_bands=1, hidden_dim=64, learning_rate=1e-2)
    reports = trained(trial, data)
    errors = [reports.metrics[step][METRIC] for step in reports.steps]
    nearest = predict_baseline("nearest", data.train, data.validation.points)
    assert errors[-1] < 0.3 * kernel_metrics(nearest.kernels, data.validation.kernels)["prior_rel_l2"]
    assert errors[-1] < 0.5 * errors[0]


def test_every_training_and_validation_metric_that_the_system_declares_is_reported(tmp_path, data):
    reports = trained(task(tmp_path), data)
    assert reports.steps == [10, 20, 30, 40]
    declared = {name for name in system("cvae_psf").metrics if name.startswith(("train/", "val/"))}
    expected = declared - {"train/fresh_share"}  # of a stream
    assert all(set(metrics) == expected for metrics in reports.metrics.values())


@pytest.mark.usefixtures("saved_at_every_report")
def test_before_a_report_its_checkpoint_is_saved_and_best_is_the_best_reported(tmp_path, data):
    checkpoints, values = tmp_path / "checkpoints", {}
    for report in train(task(tmp_path, steps=60, learning_rate=0.1), LEARNER, data):
        newest_last, best = newest(checkpoints), newest(checkpoints, "best")
        assert newest_last.step == report.step
        assert newest_last.metrics == report.metrics
        values[report.step] = report.metrics[METRIC]
        assert best.step == min(values, key=lambda at: values[at])
        assert best.best == newest_last.best == min(values.values())
        assert newest_last.best_step == best.step
    assert list(values) == [10, 20, 30, 40, 50, 60]
    assert evaluate(model_of(best), data)[METRIC] == pytest.approx(best.best)


def test_a_report_has_the_network_that_was_evaluated(tmp_path, data):
    for report in train(task(tmp_path), LEARNER, data):
        assert isinstance(report.network, CVAE)
        assert evaluate(report.network, data)[METRIC] == report.metrics[METRIC]
        assert report.last == (report.step == 40)


def test_a_metric_to_be_maximised_keeps_its_largest(tmp_path, data):
    reports = trained(replace(task(tmp_path), metric="val/prior_psnr", mode="max"), data)
    assert newest(tmp_path / "checkpoints", "best").best == max(
        metrics["val/prior_psnr"] for metrics in reports.metrics.values()
    )


def test_trainings_that_are_stepped_in_turns_give_what_each_gives_alone(tmp_path, data):
    """No state is shared: not the process's random numbers, not what a training keeps for its next report."""
    changes: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2, "ema_width": 0.0, "target_rate": 0.5, "batch_size": 8}]
    alone = [trained(task(tmp_path / f"alone-{i}", **one), data) for i, one in enumerate(changes)]
    turns = [train(task(tmp_path / f"turns-{i}", **one), LEARNER, data) for i, one in enumerate(changes)]
    heard = list(zip(*turns, strict=True))
    assert [report.step for report, _ in heard] == [10, 20, 30, 40]
    for reports in heard:
        for report, by_itself in zip(reports, alone, strict=True):
            assert untimed(report.metrics) == untimed(by_itself.metrics[report.step])
            assert report.last == (report.step == by_itself.last)
    for i in range(len(changes)):
        a, b = (newest(tmp_path / f"{how}-{i}" / "checkpoints").tensors for how in ("alone", "turns"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_compiled_networks_train_the_same_model(tmp_path, data):
    eager = trained(task(tmp_path / "eager"), data)
    compiled = trained(replace(task(tmp_path / "compiled"), compile=True), data)
    assert compiled.metrics[40][METRIC] == pytest.approx(eager.metrics[40][METRIC], rel=1e-3)


def test_training_leaves_the_random_state_of_the_process_alone(tmp_path, data):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    trained(task(tmp_path, steps=10), data)
    assert torch.equal(torch.rand(3), expected)


def test_a_non_finite_loss_stops_the_trial_and_names_step_and_term(tmp_path, data):
    kernels = data.train.kernels.clone()
    kernels[0, 0, 0, 0] = float("nan")
    bad = replace(data, train=replace(data.train, kernels=kernels))
    training = train(task(tmp_path, steps=200, every=100), LEARNER, bad)
    with pytest.raises(NonFiniteError, match=r"train/mse is nan by step 50"):
        next(training)  # before any report
    assert load_checkpoint(tmp_path / "checkpoints", "last") is None


def test_conditions_with_depth_train_too(tmp_path):
    data = tensors(tmp_path / "data", side=8, depths=(-10000.0, -2000.0, -1000.0))
    trial = task(tmp_path, steps=300, every=100, fourier_bands=1, hidden_dim=64, learning_rate=1e-2)
    assert trained(trial, data).metrics[300][METRIC] < 0.1
    config = newest(tmp_path / "checkpoints", "best").config
    assert config["diopter_ranges"] == {"depth_mm": pytest.approx((0.1, 1.0))}
