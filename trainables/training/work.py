"""What a lane does for a training: open the data (once per process), train, write TensorBoard's events, report."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from functools import lru_cache
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from spaces.system import system
from trainables.lanes.task import Progress, Worker
from trainables.learner import Learner
from trainables.training.loop import Evaluation, train
from trainables.training.pack import Pack
from trainables.training.task import TrainingTask

AnyLearner = Learner[Any, Any, Any, Any]

PACK = Pack()
"""Of all trainings of this process."""
OPENING = threading.Lock()
"""Data is opened once, whichever thread comes first."""


def train_and_log(task: TrainingTask, worker: Worker) -> Generator[Progress]:
    """`train` for a lane.

    Raises:
        NonFiniteError: the loss became non-finite.
    """
    with OPENING:
        learner, data = _open(task.system, tuple(sorted(task.sets.items())), worker.device)
    learner.since_last(data)  # of this trial, not of those before
    events = _Events(task, learner, data) if worker.rank == 0 and task.events is not None else None
    try:
        place = {"rank": worker.rank, "world_size": worker.world_size}
        pack = PACK if worker.places > 1 else None
        with closing(train(task, learner, data, **place, pack=pack)) as reports:
            for report in reports:
                metrics = report.metrics | (learner.since_last(data) if report.metrics else {})
                if events is not None:
                    events.write(report, metrics)
                yield Progress(report.step, metrics, report.last)
    finally:
        if events is not None:
            events.close()


@lru_cache(maxsize=2)
def _open(name: str, sets: tuple[tuple[str, str], ...], device: str) -> tuple[AnyLearner, Any]:
    learner: AnyLearner = system(name).make_learner()
    return learner, learner.open(dict(sets), device)


class _Events:
    """TensorBoard's files of one trial: its hyperparameters, its metrics, and pictures at some reports."""

    def __init__(self, task: TrainingTask, learner: AnyLearner, data: Any) -> None:
        self._task, self._learner, self._data = task, learner, data
        self._writer = SummaryWriter(task.events)
        # Not add_hparams(): it would log a value of the metric before there is one.
        for summary in hparams(dict(task.params), {task.metric: 0.0}):
            self._writer.file_writer.add_summary(summary)  # type: ignore[attr-defined]  # torch says None
        self._writer.flush()

    def write(self, report: Evaluation, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, report.step)
        if report.network is not None and (report.last or report.step in self._task.picture_steps):
            for tag, picture in self._learner.pictures(report.network, self._data).items():
                self._writer.add_image(tag, picture, report.step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
