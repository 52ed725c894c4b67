"""What a lane does for a training: reports, TensorBoard's events, data opened once."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainables.training.small import task, trained, untimed
from trainables.lanes.task import TrialFailure, Worker
from trainables.psf.data import PsfTensors
from trainables.training.loop import NonFiniteError
from trainables.training.task import TrainingTask


@pytest.fixture
def whole_task(tmp_path: Path, data: PsfTensors) -> TrainingTask:
    """With everything a search gives to a lane."""
    return replace(
        task(tmp_path / "trial"),
        sets={name: str(tmp_path / "data" / name) for name in ("train", "validation")},
        events=str(tmp_path / "events"),
        params={"hidden_dim": 32, "lr_schedule": "one_cycle"},
        picture_steps=(10,),
    )


def test_a_lane_reports_what_the_training_does_and_writes_it_for_tensorboard(whole_task, tmp_path, data):
    reports = list(whole_task.reports(Worker()))
    alone = trained(task(tmp_path / "alone"), data)
    assert [(one.step, one.last) for one in reports] == [(10, False), (20, False), (30, False), (40, True)]
    for one in reports:
        assert untimed(one.metrics) == untimed(alone.metrics[one.step])
    events = EventAccumulator(whole_task.events, size_guidance={"images": 0})
    events.Reload()
    for name in reports[0].metrics:
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert logged == [(one.step, pytest.approx(one.metrics[name])) for one in reports], name
    assert [event.step for event in events.Images("psfs")] == [10, 40]  # the first rung and the last report
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_a_lane_that_goes_on_repeats_the_last_report_without_a_network_to_picture(whole_task):
    first = list(whole_task.reports(Worker()))
    (again,) = whole_task.reports(Worker())
    assert again == first[-1]


def test_without_a_place_for_events_none_are_written(whole_task, tmp_path):
    next(replace(whole_task, events=None).reports(Worker()))
    assert not (tmp_path / "events").exists()


def test_a_task_is_plain_data_that_crosses_to_a_lane(whole_task):
    assert pickle.loads(pickle.dumps(whole_task)) == whole_task


def test_a_training_that_cannot_succeed_is_a_failure_of_the_trial():
    """The lane goes on: it is told of no error of its own."""
    assert issubclass(NonFiniteError, TrialFailure)


@pytest.mark.parametrize(
    ("plateau", "step", "best", "ends"),
    [(0.0, 30, 10, False), (0.5, 30, 10, True), (0.5, 20, 10, False), (0, 40, 40, True)],
)
def test_when_a_report_is_the_last(tmp_path, plateau, step, best, ends):
    assert task(tmp_path, plateau=plateau).ends(step, best) == ends
