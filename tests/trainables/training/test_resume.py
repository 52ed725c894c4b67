"""Going on from checkpoints: what is repeated comes out bit for bit, and nothing is lost or kept that should not be."""

import logging

import pytest
import torch

from tests.trainables.psf.synthetic import newest, state_of
from tests.trainables.training.small import LEARNER, METRIC, task, trained, untimed
from trainables.training import saving
from trainables.training.loop import train


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
    whole = trained(task(tmp_path / "whole", **changes), data)
    first = trained(task(tmp_path / "parts", **changes), data, stop_at=20)
    assert whole.last == 40
    assert first.last is None
    assert first.steps == [10, 20]
    torch.rand(3)  # the process's own random state plays no part
    second = trained(task(tmp_path / "parts", **changes), data)
    # The report of the checkpoint itself is made again, in case it was never heard; earlier ones are not.
    assert second.steps == [20, 30, 40]
    assert second.metrics[20] == first.metrics[20]
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert untimed(second.metrics[40]) == untimed(whole.metrics[40])


@pytest.mark.usefixtures("saved_at_every_report")
def test_resuming_from_a_damaged_checkpoint_uses_the_one_before(tmp_path, data, caplog):
    trained(task(tmp_path / "whole"), data)
    trained(task(tmp_path / "parts"), data, stop_at=30)
    (tmp_path / "parts" / "checkpoints" / "last-00000030.safetensors").write_bytes(b"half a file")
    caplog.set_level(logging.INFO)
    assert trained(task(tmp_path / "parts"), data).steps == [20, 30, 40]
    assert "last-00000030.json is damaged" in caplog.text
    assert "goes on from step 20" in caplog.text
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_between_two_checkpoints_nothing_is_lost(tmp_path, data, monkeypatch):
    """Only the first report has a checkpoint, and the last; what is repeated after it comes out the same."""
    monkeypatch.setattr(saving, "SHARE", 1e-12)
    trained(task(tmp_path / "whole"), data)
    assert newest(tmp_path / "whole" / "checkpoints").ended
    first = trained(task(tmp_path / "parts"), data, stop_at=30)
    checkpoints = tmp_path / "parts" / "checkpoints"
    assert newest(checkpoints).step == 10
    # The best is written when the training is closed, however long ago it was.
    errors = {step: metrics[METRIC] for step, metrics in first.metrics.items()}
    assert newest(checkpoints, "best").step == min(errors, key=lambda step: errors[step])
    assert trained(task(tmp_path / "parts"), data).steps == [10, 20, 30, 40]
    a, b = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_course_that_is_taken_anew_leaves_nothing_newer_behind(tmp_path, data):
    """Checkpoints that are damaged would otherwise be kept as the newest, and those written now deleted."""
    trained(task(tmp_path), data, stop_at=30)
    checkpoints = tmp_path / "checkpoints"
    for path in checkpoints.glob("*.safetensors"):
        path.write_bytes(b"half a file")
    reports = trained(task(tmp_path), data)
    assert reports.steps == [10, 20, 30, 40]
    assert newest(checkpoints).step == 40
    assert newest(checkpoints, "best").best == min(metrics[METRIC] for metrics in reports.metrics.values())


def test_a_finished_trial_only_repeats_its_last_report(tmp_path, data):
    trained(task(tmp_path), data)
    again = trained(task(tmp_path), data)
    assert again.steps == [40]
    assert again.last == 40


@pytest.mark.usefixtures("saved_at_every_report")
def test_the_repeated_report_comes_from_the_file_before_anything_is_evaluated(tmp_path, data):
    trained(task(tmp_path), data, stop_at=20)
    repeated, following = list(train(task(tmp_path), LEARNER, data))[:2]
    assert (repeated.step, repeated.network) == (20, None)
    assert following.network is not None
