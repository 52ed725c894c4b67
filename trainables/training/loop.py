"""Training of one trial, from the first step or a checkpoint to the last or until told to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from spaces.trial import CvaePsfTrial
from trainables.lanes.board import ReportFunction
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.data import PsfTensors
from trainables.psf.metrics import evaluate
from trainables.training.checkpoints import Checkpoint, load_checkpoint, stored_checkpoints
from trainables.training.saving import Saver
from trainables.training.schedules import kl_factor, learning_rate_factor
from trainables.training.state import TrainingState
from trainables.training.step import TERMS, Step

logger = logging.getLogger(__name__)

CHECK_EVERY = 50
"""Steps between two looks at whether the loss is finite; each look waits for the device."""


class NonFiniteError(ArithmeticError):
    """A term of the loss became NaN or infinite. Every rank raises it at the same step."""


@dataclass(frozen=True)
class TrialTask:
    """What a lane is asked to train."""

    trial: CvaePsfTrial
    seed: int
    steps: int
    """The full budget: schedules are fractions of it, also for a trial that is stopped early."""
    report_steps: tuple[int, ...]
    """Rising, the last one equal to `steps`."""
    directory: str
    """The trial's own; checkpoints go to `<directory>/checkpoints`."""
    metric: str = "val/prior_rel_l2"
    """The objective: `best` is the checkpoint with the best value of it."""
    mode: Literal["min", "max"] = "min"
    compile: bool = False
    """The networks are compiled first."""

    @property
    def checkpoints(self) -> Path:
        return Path(self.directory) / "checkpoints"

    def ends(self, step: int, best_step: int) -> bool:
        """Whether the report at a step is the last, the best one so far being that at `best_step`."""
        plateau = self.trial.plateau * self.steps
        return step == self.steps or (plateau > 0 and step - best_step >= plateau)


def train_trial(
    task: TrialTask,
    data: PsfTensors,
    report: ReportFunction,
    *,
    look: Callable[[int, CVAE], None] = lambda step, model: None,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Train one trial on this rank's part of every batch, until its last report or until told to stop.

    W workers with a global batch B train the same model as one worker with batch B (on a stream, each rank has its own copy of
    the buffer, and its part of a batch is drawn from that). Checkpoints are written at some reports, before they are made
    (`Saver`). A trial found half done in its directory goes on from its newest valid checkpoint and repeats the reports from
    there on, that of the checkpoint included: on a grid and one kind of CPU they are the same, bit for bit, and whoever receives
    reports ignores a step that it knows.

    Args:
        data: on this rank's device. With `world_size` > 1 the process group is initialised.
        look: shown every model that is evaluated, on rank 0, before its report.

    Raises:
        NonFiniteError: on every rank, naming step and term.
    """
    trial = task.trial
    assert task.report_steps[-1] == task.steps
    # The same on all ranks: each draws the whole batch and takes its part.
    state = TrainingState(trial, _config(trial, data), task.seed, data.device)
    saver = Saver(task.checkpoints, task.metric, task.mode)
    start = 0
    if (found := _found(task, rank, world_size)) is not None:
        start = found.step
        state.restore(found.tensors)
        saver.go_on_from(found)
        if rank == 0:
            logger.info("goes on from step %d", start)
        if not report(start, found.metrics if rank == 0 else {}, found.ended):
            return
    take_step = Step(trial, data, state, rank=rank, world_size=world_size, compiled=task.compile)

    totals, since, clock = torch.zeros(len(TERMS), device=data.device), start, time.perf_counter()
    for step in range(start + 1, task.steps + 1):
        fraction = (step - 1) / task.steps
        kl_weight = trial.kl_weight * kl_factor(trial.kl_schedule, fraction, trial.kl_warmup, trial.kl_cycles)
        learning_rate = trial.learning_rate * learning_rate_factor(
            trial.lr_schedule, fraction, trial.lr_warmup, trial.lr_cycles
        )
        totals += take_step(step, learning_rate, kl_weight)

        reporting = step in task.report_steps
        if not (reporting or step % CHECK_EVERY == 0):
            continue
        means = _means(totals / (step - since), world_size)
        if (failure := _not_finite(means)) is not None:
            saver.finish()
            raise NonFiniteError(f"{failure} by step {step}")
        if not reporting:
            continue
        metrics: dict[str, float] = {}
        last = False
        if rank == 0:
            seconds = time.perf_counter() - clock
            metrics = {f"train/{name}": value for name, value in means.items()}
            metrics["train/kl_weight"] = float(state.steered(kl_weight))
            metrics["train/learning_rate"] = learning_rate
            metrics["train/steps_per_second"] = (step - since) / seconds
            metrics |= evaluate(state.evaluated, data.validation)
            last = task.ends(step, saver.note(step, metrics, state))
            saver.save(step, metrics, state, last=last)
            look(step, state.evaluated)
        if not report(step, metrics, last):
            saver.finish()
            return
        totals, since, clock = totals.zero_(), step, time.perf_counter()


def _found(task: TrialTask, rank: int, world_size: int) -> Checkpoint | None:
    """Where to go on: rank 0's newest valid checkpoint, for all ranks, whatever the others' disks hold.

    Later ones are deleted, damaged as they are or of a course that is taken anew: the newest must be what comes.
    """
    found = [load_checkpoint(task.checkpoints, "last") if rank == 0 else None]
    if rank == 0:
        for one in stored_checkpoints(task.checkpoints):
            if found[0] is None or one.step > found[0].step:
                one.delete()
    if world_size > 1:
        dist.broadcast_object_list(found)
    return found[0]


def _config(trial: CvaePsfTrial, data: PsfTensors) -> CvaeConfig:
    _, channels, kernel_px, _ = data.train.kernels.shape
    return CvaeConfig.of(trial, channels=channels, kernel_px=kernel_px, diopter_ranges=data.diopter_ranges)


def _means(means: Tensor, world_size: int) -> dict[str, float]:
    """Every term's mean over steps and ranks: the one place where training waits for the device."""
    if world_size > 1:
        dist.all_reduce(means)
    return dict(zip(TERMS, (means / world_size).tolist(), strict=True))


def _not_finite(means: dict[str, float]) -> str | None:
    return next((f"train/{name} is {value}" for name, value in means.items() if not math.isfinite(value)), None)
