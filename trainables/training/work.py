"""What a lane does with one assignment: load the data (once per lane), train, log, checkpoint, report."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import ray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from deeplens_workers.stream import STREAM
from spaces.trial import CvaePsfTrial
from trainables.lanes.board import ReportFunction
from trainables.lanes.lane import TrialFailure, Worker
from trainables.psf.cvae import CVAE
from trainables.psf.data import PsfTensors
from trainables.psf.pictures import psf_image
from trainables.psf.stream import StreamReader
from trainables.training.loop import NonFiniteError, TrialTask, train_trial


def train_assignment(payload: dict[str, Any], report: ReportFunction, worker: Worker) -> None:
    """The `Work` of a search's lanes. `payload` is built by `search.trial.TrialSettings`.

    Raises:
        TrialFailure: the loss became non-finite.
    """
    task = TrialTask(
        trial=CvaePsfTrial.model_validate(payload["trial"]),
        seed=payload["seed"],
        steps=payload["steps"],
        report_steps=tuple(payload["report_steps"]),
        directory=payload["directory"],
        metric=payload["metric"],
        mode=payload["mode"],
        compile=payload["compile"],
    )
    data, reader = load_data(payload["data"]["train"], payload["data"]["validation"], payload["stream"], worker.device)
    if reader is not None:
        reader.fresh_share()  # of this trial, not of those before
    writer = SummaryWriter(payload["events"]) if worker.rank == 0 else None
    if writer is not None:
        # Not add_hparams(): it would log a value of the metric before there is one.
        for summary in hparams(payload["params"], {task.metric: 0.0}):
            writer._get_file_writer().add_summary(summary)
        writer.flush()

    evaluated: CVAE | None = None  # while the report of the checkpoint that the trial goes on from is repeated

    def look(step: int, model: CVAE) -> None:
        nonlocal evaluated
        evaluated = model

    def log_and_report(step: int, metrics: dict[str, float], last: bool) -> bool:
        if reader is not None and metrics and (share := reader.fresh_share()) is not None:
            metrics = {**metrics, "train/fresh_share": share}
        if writer is not None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
            if evaluated is not None and (last or step in payload["image_steps"]):
                writer.add_image("psfs", psf_image(evaluated, data.validation), step)
            writer.flush()
        return report(step, metrics, last)

    try:
        train_trial(task, data, log_and_report, look=look, rank=worker.rank, world_size=worker.world_size)
    except NonFiniteError as error:
        raise TrialFailure(str(error)) from error
    finally:
        if writer is not None:
            writer.close()


@lru_cache(maxsize=2)
def load_data(train: str, validation: str, stream: bool, device: str) -> tuple[PsfTensors, StreamReader | None]:
    """What a lane trains on: the grid, or the running stream and what reads it. Loaded once per process."""
    data = PsfTensors.load(train, validation, device)
    if not stream:
        return data, None
    reader = StreamReader(ray.get_actor(STREAM), data.conditions, device)
    return replace(data, train=reader.train, refresh=reader.refresh), reader
