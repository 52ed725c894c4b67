"""Lanes on a real Ray: trials one after another, a killed worker, a failing trial."""

import uuid
from pathlib import Path

import numpy as np
import pytest
import ray

from tests.processes import kill
from trainables.board import Assignment
from trainables.lane import Lanes, TrialFailure, training

STEPS, EVERY = 60, 10


def load_trivial_work():
    """Work that reports `payload["steps"]` times, or fails as its payload says."""

    def work(payload, report, worker):
        if payload.get("raises") == "failure":
            raise TrialFailure("train/loss is nan by step 3")
        if payload.get("raises") == "error":
            raise RuntimeError("no such thing")
        for step in range(1, payload["steps"] + 1):
            if not report(step, {"x": 1.0 / step}, step == payload["steps"]):
                return

    return work


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny data set: Gaussian kernels whose width grows from the field's centre."""
    root = tmp_path_factory.mktemp("data")
    axis = np.linspace(-1, 1, 5)
    for name, points in {
        "train": np.stack([*np.meshgrid(axis, axis), np.full((5, 5), -1e4)], axis=-1).reshape(-1, 3),
        "validation": np.column_stack([np.random.default_rng(0).uniform(-1, 1, (8, 2)), np.full(8, -1e4)]),
    }.items():
        pixel = np.arange(7) - 3
        square = pixel[:, None] ** 2 + pixel**2
        kernels = np.exp(-square / (1 + np.hypot(points[:, 0], points[:, 1]))[:, None, None, None])
        kernels /= kernels.sum((2, 3), keepdims=True)
        (root / name).mkdir()
        np.save(root / name / "kernels.npy", kernels.astype(np.float32))
        np.save(root / name / "points.npy", points.astype(np.float32))
    return root


def assignment(trial, payload):
    return Assignment(uuid.uuid4().hex, trial, payload)


def training_payload(data: Path, directory: Path):
    small = {"hidden_dim": 16, "latent_dim": 4, "num_layers": 1, "fourier_bands": 2, "batch_size": 16}
    return {
        "trial": {**small, "recon_scale": 1e3, "free_bits": 0.05, "learning_rate": 1e-3, "smooth_pairs": 8},
        "params": {"hidden_dim": 16},
        "seed": 5,
        "steps": STEPS,
        "report_steps": list(range(EVERY, STEPS + 1, EVERY)),
        "metric": "val/prior_rel_l2",
        "mode": "min",
        "directory": str(directory / "trial"),
        "events": str(directory / "events"),
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "stream": False,
    }


def reports(lanes, posted, between=None):
    """Every report of an assignment; `between(step)` runs while the lane waits for the decision."""
    ray.get(lanes.board.submit.remote(posted))
    heard = []
    while True:
        report = ray.get(lanes.board.next_report.remote(posted.attempt), timeout=240)
        heard.append(report)
        if report.last:
            return heard
        if between is not None:
            between(report.step)


def test_one_lane_trains_trial_after_trial_and_survives_failing_ones(ray_session, tmp_path):
    with Lanes(load_trivial_work, lanes=1, workers=1, cpus=1, gpus=0, storage=tmp_path) as lanes:
        lanes.wait_ready()
        assert [report.step for report in reports(lanes, assignment(0, {"steps": 3}))] == [1, 2, 3]
        (failed,) = reports(lanes, assignment(1, {"raises": "failure"}))
        assert failed.failure == "train/loss is nan by step 3"
        (failed,) = reports(lanes, assignment(2, {"raises": "error"}))
        assert failed.failure == "RuntimeError: no such thing (4 times, at step 0)"
        assert [report.step for report in reports(lanes, assignment(3, {"steps": 2}))] == [1, 2]


def test_a_killed_worker_of_two_costs_nothing_but_time(ray_session, data, tmp_path):
    """The trial resumes from its last checkpoint, reports nothing twice, and ends as if nothing had happened."""
    with Lanes(training, lanes=1, workers=2, cpus=1, gpus=0, storage=tmp_path) as lanes:
        lanes.wait_ready()
        undisturbed = reports(lanes, assignment(0, training_payload(data, tmp_path / "undisturbed")))
        disturbed = reports(
            lanes,
            assignment(1, training_payload(data, tmp_path / "disturbed")),
            between=lambda step: kill("TrainWorker") if step == 2 * EVERY else None,
        )
    assert [report.step for report in disturbed] == list(range(EVERY, STEPS + 1, EVERY))
    for before, after in zip(undisturbed, disturbed, strict=True):
        assert after.metrics["val/prior_rel_l2"] == before.metrics["val/prior_rel_l2"]
    assert (tmp_path / "disturbed" / "events").is_dir()
