"""The training loop: it learns, resumes bit for bit, stops, fails loudly, and W workers equal one."""

import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spaces.metrics import METRICS
from tests.trainables.psf.synthetic import newest, state_of, tensors
from trainables.psf.data import PsfSplit, PsfTensors
from trainables.psf.interpolation import predict_baseline
from trainables.psf.metrics import evaluate, kernel_metrics
from trainables.psf.trial import CvaePsfTrial
from trainables.training import saving
from trainables.training.checkpoints import load_checkpoint
from trainables.training.loop import NonFiniteError, TrialTask, train_trial

TRIAL = CvaePsfTrial(
    latent_dim=4,
    hidden_dim=32,
    num_layers=2,
    fourier_bands=2,
    recon_scale=1e3,
    kl_weight=1e-3,
    kl_schedule="linear",
    kl_warmup=0.5,
    learning_rate=3e-3,
    lr_schedule="one_cycle",
    batch_size=16,
    smooth_pairs=8,
    ema_width=0.1,
    precision="float32",
)


class Reports:
    """Remembers what was reported; stops the trial at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.metrics: dict[int, dict[str, float]] = {}
        self.steps: list[int] = []
        self.stop_at = stop_at
        self.last: int | None = None
        """The step whose report was made as the last."""

    def __call__(self, step: int, metrics: dict[str, float], last: bool) -> bool:
        self.steps.append(step)
        self.metrics[step] = metrics
        if last:
            self.last = step
        return step != self.stop_at and not last


@pytest.fixture
def saved_at_every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SHARE", math.inf)


def task(directory: Path, steps: int = 40, every: int = 10, **changes: Any) -> TrialTask:
    trial = TRIAL.model_copy(update=changes)
    return TrialTask(
        trial, seed=3, steps=steps, report_steps=tuple(range(every, steps + 1, every)), directory=str(directory)
    )


@pytest.fixture
def data(tmp_path: Path) -> PsfTensors:
    return tensors(tmp_path / "data")


def test_a_trial_learns_far_beyond_nearest_neighbour(tmp_path):
    data, reports = tensors(tmp_path / "data", side=10), Reports()
    trial = task(tmp_path, steps=600, every=100, fourier_bands=1, hidden_dim=64, learning_rate=1e-2)
    train_trial(trial, data, reports)
    errors = [reports.metrics[step]["val/prior_rel_l2"] for step in reports.steps]
    nearest = predict_baseline("nearest", data.train, data.validation.points)
    assert errors[-1] < 0.3 * kernel_metrics(nearest.kernels, data.validation.kernels)["prior_rel_l2"]
    assert errors[-1] < 0.5 * errors[0]


def test_every_training_and_validation_metric_of_the_table_is_reported(tmp_path, data):
    reports = Reports()
    train_trial(task(tmp_path), data, reports)
    assert reports.steps == [10, 20, 30, 40]
    expected = {name for name in METRICS if name.startswith(("train/", "val/"))} - {"train/fresh_share"}  # of a stream
    assert all(set(metrics) == expected for metrics in reports.metrics.values())


@pytest.mark.usefixtures("saved_at_every_report")
def test_before_a_report_its_checkpoint_is_saved_and_best_is_the_best_reported(tmp_path, data):
    checkpoints = tmp_path / "checkpoints"
    reports = Reports()

    def report(step: int, metrics: dict[str, float], last: bool) -> bool:
        reports(step, metrics, last)
        newest_last, best = newest(checkpoints), newest(checkpoints, "best")
        assert newest_last.step == step
        assert newest_last.metrics == metrics
        values = {at: m["val/prior_rel_l2"] for at, m in reports.metrics.items()}
        assert best.step == min(values, key=lambda at: values[at])
        assert best.best == newest_last.best == min(values.values())
        assert newest_last.best_step == best.step
        return True

    train_trial(task(tmp_path, steps=60, learning_rate=0.1), data, report)
    best = newest(checkpoints, "best")
    assert evaluate(best.model(), data.validation)["val/prior_rel_l2"] == pytest.approx(best.best)


def test_a_metric_to_be_maximised_keeps_its_largest(tmp_path, data):
    reports = Reports()
    train_trial(replace(task(tmp_path), metric="val/prior_psnr", mode="max"), data, reports)
    assert newest(tmp_path / "checkpoints", "best").best == max(
        metrics["val/prior_psnr"] for metrics in reports.metrics.values()
    )


@pytest.mark.usefixtures("saved_at_every_report")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "sgd", "momentum": 0.0, "accumulation": 2},
        {"optimizer": "adam", "decoder_variance": "optimal", "target_rate": 0.5, "plateau": 1.0},
        {"decoder_variance": "learned", "precision": "bfloat16", "lr_schedule": "cosine_restarts"},
    ],
    ids=str,
)
def test_resuming_repeats_an_uninterrupted_run_bit_for_bit(tmp_path, data, changes):
    whole, first, second = Reports(), Reports(stop_at=20), Reports()
    train_trial(task(tmp_path / "whole", **changes), data, whole)
    train_trial(task(tmp_path / "parts", **changes), data, first)
    assert whole.last == 40
    assert first.last is None
    assert first.steps == [10, 20]
    torch.rand(3)  # the process's own random state plays no part
    train_trial(task(tmp_path / "parts", **changes), data, second)
    # The report of the checkpoint itself is made again, in case it was never heard; earlier ones are not.
    assert second.steps == [20, 30, 40]
    assert second.metrics[20] == first.metrics[20]
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)
    timing = "train/steps_per_second"
    assert {**second.metrics[40], timing: 0} == {**whole.metrics[40], timing: 0}


@pytest.mark.usefixtures("saved_at_every_report")
def test_resuming_from_a_damaged_checkpoint_uses_the_one_before(tmp_path, data, caplog):
    whole = Reports()
    train_trial(task(tmp_path / "whole"), data, whole)
    train_trial(task(tmp_path / "parts"), data, Reports(stop_at=30))
    (tmp_path / "parts" / "checkpoints" / "last-00000030.safetensors").write_bytes(b"half a file")
    second = Reports()
    caplog.set_level(logging.INFO)
    train_trial(task(tmp_path / "parts"), data, second)
    assert second.steps == [20, 30, 40]
    assert "last-00000030.json is damaged" in caplog.text
    assert "goes on from step 20" in caplog.text
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_between_two_checkpoints_nothing_is_lost(tmp_path, data, monkeypatch):
    """Only the first report has a checkpoint, and the last; what is repeated after it comes out the same."""
    monkeypatch.setattr(saving, "SHARE", 1e-12)
    whole, first, second = Reports(), Reports(stop_at=30), Reports()
    train_trial(task(tmp_path / "whole"), data, whole)
    assert newest(tmp_path / "whole" / "checkpoints").ended
    train_trial(task(tmp_path / "parts"), data, first)
    checkpoints = tmp_path / "parts" / "checkpoints"
    assert newest(checkpoints).step == 10
    # The best is written when the trial is told to stop, however long ago it was.
    errors = {step: metrics["val/prior_rel_l2"] for step, metrics in first.metrics.items()}
    assert newest(checkpoints, "best").step == min(errors, key=lambda step: errors[step])
    train_trial(task(tmp_path / "parts"), data, second)
    assert second.steps == [10, 20, 30, 40]
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_course_that_is_taken_anew_leaves_nothing_newer_behind(tmp_path, data):
    """Checkpoints that are damaged would otherwise be kept as the newest, and those written now deleted."""
    train_trial(task(tmp_path), data, Reports(stop_at=30))
    checkpoints = tmp_path / "checkpoints"
    for path in checkpoints.glob("*.safetensors"):
        path.write_bytes(b"half a file")
    reports = Reports()
    train_trial(task(tmp_path), data, reports)
    assert reports.steps == [10, 20, 30, 40]
    assert newest(checkpoints).step == 40
    assert newest(checkpoints, "best").best == min(m["val/prior_rel_l2"] for m in reports.metrics.values())


def test_a_finished_trial_only_repeats_its_last_report(tmp_path, data):
    train_trial(task(tmp_path), data, Reports())
    again = Reports()
    train_trial(task(tmp_path), data, again)
    assert again.steps == [40]
    assert again.last == 40


@pytest.mark.slow
def test_compiled_networks_train_the_same_model(tmp_path, data):
    eager, compiled = Reports(), Reports()
    train_trial(task(tmp_path / "eager"), data, eager)
    train_trial(replace(task(tmp_path / "compiled"), compile=True), data, compiled)
    assert compiled.metrics[40]["val/prior_rel_l2"] == pytest.approx(eager.metrics[40]["val/prior_rel_l2"], rel=1e-3)


def test_training_leaves_the_random_state_of_the_process_alone(tmp_path, data):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train_trial(task(tmp_path, steps=10), data, Reports())
    assert torch.equal(torch.rand(3), expected)


def test_a_non_finite_loss_stops_the_trial_and_names_step_and_term(tmp_path, data):
    kernels = data.train.kernels.clone()
    kernels[0, 0, 0, 0] = float("nan")
    bad = replace(data, train=replace(data.train, kernels=kernels))
    reports = Reports()
    with pytest.raises(NonFiniteError, match=r"train/mse is nan by step 50"):
        train_trial(task(tmp_path, steps=200, every=100), bad, reports)
    assert reports.steps == []
    assert load_checkpoint(tmp_path / "checkpoints", "last") is None


def test_conditions_with_depth_train_too(tmp_path):
    data, reports = tensors(tmp_path / "data", side=8, depths=(-10000.0, -2000.0, -1000.0)), Reports()
    trial = task(tmp_path, steps=300, every=100, fourier_bands=1, hidden_dim=64, learning_rate=1e-2)
    train_trial(trial, data, reports)
    assert reports.metrics[300]["val/prior_rel_l2"] < 0.1
    assert newest(tmp_path / "checkpoints", "best").config.diopter_ranges == {"depth_mm": pytest.approx((0.1, 1.0))}


# Every term acts: free bits near the KL's size, all three weights, a batch and pairs that do not divide by two.
DDP_CASES: dict[str, dict[str, Any]] = {
    "dimension": {"free_bits": 0.03, "kl_weight": 1.0, "smooth_weight": 1.0, "batch_size": 15, "smooth_pairs": 7},
    "sample": {
        "free_bits": 0.1,
        "free_bits_per": "sample",
        "kl_weight": 1.0,
        "smooth_term": "kl",
        "smooth_weight": 0.1,
        "smooth_pairs": 1,
    },
    "optimal": {"decoder_variance": "optimal", "kl_weight": 1.0, "target_rate": 0.5, "batch_size": 15},
    "learned": {
        "decoder_variance": "learned",
        "kl_weight": 1.0,
        "accumulation": 3,
        "batch_size": 5,
        "optimizer": "adam",
    },
    "few": {"batch_size": 1, "smooth_pairs": 1, "accumulation": 2, "grad_clip": 0.0},  # nothing is left for one rank
    "sgd": {"optimizer": "sgd", "kl_reduction": "mean", "lr_schedule": "cosine_restarts", "smooth_term": "output"},
}

RANK = """
import sys
import torch
import torch.distributed as dist
from tests.trainables.training.test_loop import DDP_CASES, Path, PsfTensors, Reports, in_double, task, train_trial

rank, root = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
dist.init_process_group("gloo", init_method=f"file://{root}/rendezvous", rank=rank, world_size=2)
data = in_double(PsfTensors.load(root / "data" / "train", root / "data" / "validation"))
for case, changes in DDP_CASES.items():
    reports = Reports()
    train_trial(task(root / "two" / case, **changes), data, reports, rank=rank, world_size=2)
    assert reports.steps == [10, 20, 30, 40]
    assert bool(reports.metrics[40]) == (rank == 0)
dist.barrier()  # neither leaves while the other still talks to it
dist.destroy_process_group()
"""


def in_double(data: PsfTensors) -> PsfTensors:
    """The same data in float64, so that only a wrong gradient, not rounding that Adam amplifies, can tell models apart."""
    train, validation = (
        PsfSplit(split.kernels.double(), split.points.double()) for split in (data.train, data.validation)
    )
    return replace(data, train=train, validation=validation)


@pytest.fixture
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double_precision")
def test_two_workers_train_the_same_model_as_one_with_the_same_batch(tmp_path, data):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [process.wait(timeout=400) for process in ranks] == [0, 0]
    for case, changes in DDP_CASES.items():
        reports = Reports()
        train_trial(task(tmp_path / "one" / case, **changes), in_double(data), reports)
        one, two = state_of(tmp_path / "one" / case), state_of(tmp_path / "two" / case)
        for name in one:
            torch.testing.assert_close(two[name], one[name], atol=1e-9, rtol=1e-9)
        metrics = newest(tmp_path / "two" / case / "checkpoints").metrics
        for name, value in reports.metrics[40].items():
            if name != "train/steps_per_second":
                assert metrics[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
        # The test has teeth: free bits lift the KL here.
        assert "free_bits" not in changes or (
            reports.metrics[10]["train/kl_free"] > 1.01 * reports.metrics[10]["train/kl"]
        )
