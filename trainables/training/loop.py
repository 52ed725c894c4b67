"""Training of one trial, from the first step or a checkpoint on: an iterator over its reports."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist

from spaces.seeding import named_seed
from trainables.lanes.task import TrialFailure
from trainables.learner import Learner, Network
from trainables.networks.norms import has_statistics, measuring
from trainables.training.checkpoints import Checkpoint, load_checkpoint
from trainables.training.cuda_graphs import StepGraph
from trainables.training.pack import Pack
from trainables.training.saving import Saver
from trainables.training.schedules import kl_factor, learning_rate_factor
from trainables.training.state import TrainingState
from trainables.training.step import Step
from trainables.training.stored import stored_checkpoints
from trainables.training.task import TrainingTask
from trainables.training.totals import Totals, not_finite

logger = logging.getLogger(__name__)

MEASURED_SAMPLES = 256
"""Of which a moving average's batch statistics are measured: a convolution has as many times its pixels."""
CHECK_EVERY = 50
"""Steps between two looks at whether the loss is finite; each look waits for the device."""


class NonFiniteError(TrialFailure, ArithmeticError):
    """A term of the loss became NaN or infinite. Every rank raises it at the same step."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report of a training. Other ranks than 0 have no metrics and no network, and cannot tell which report is the last."""

    step: int
    metrics: dict[str, float]
    last: bool
    network: Network | None
    """What was evaluated; None while the report of the checkpoint that the trial goes on from is repeated."""


def train(
    task: TrainingTask,
    learner: Learner[Any, Any, Any, Any],
    data: Any,
    *,
    rank: int = 0,
    world_size: int = 1,
    pack: Pack | None = None,
) -> Generator[Evaluation]:
    """Train one trial on this rank's part of every batch: each `next` goes on to the following report, `close` ends it early.

    W workers with a global batch B train the same model as one worker with batch B (on a stream, each rank has its own copy of
    the buffer, and its part of a batch is drawn from that). Checkpoints are written at some reports, before they are made
    (`Saver`). A trial found half done in its directory goes on from its newest valid checkpoint and repeats the reports from
    there on, that of the checkpoint included: on data that stays and one kind of CPU they are the same, bit for bit, and
    whoever receives reports ignores a step that it knows.

    Args:
        data: as the learner opened it, on this rank's device. With `world_size` > 1 the process group is initialised.
        pack: makes the steps, with those of other trainings in this process; None: of this one alone.

    Raises:
        NonFiniteError: on every rank, naming step and term.
    """
    assert task.report_steps[-1] == task.steps
    device = torch.device(data.device)
    # The same on all ranks: each draws the whole batch and takes its part.
    state = TrainingState(task.trial, lambda: learner.build(task.trial, data), task.seed, device)
    saver = Saver(task)
    start = 0
    if (found := _found(task, rank, world_size)) is not None:
        start = found.step
        state.restore(found.tensors)
        saver.go_on_from(found)
        if rank == 0:
            logger.info("goes on from step %d", start)
        yield Evaluation(start, found.metrics if rank == 0 else {}, found.ended, None)
        if found.ended:
            return
    capturable = device.type == "cuda" and world_size == 1 and learner.capturable(data)
    take_step = Step(
        task.trial,
        learner,
        data,
        state,
        rank=rank,
        world_size=world_size,
        compiled=task.compile,
        graph=StepGraph([state], shared=pack is not None) if task.cuda_graphs and capturable else None,
    )
    pack = pack or Pack()
    try:
        yield from _reports(task, saver, take_step, pack, start, rank)
    finally:
        pack.forget(take_step)
        saver.finish()


def _reports(
    task: TrainingTask, saver: Saver, take_step: Step, pack: Pack, start: int, rank: int
) -> Generator[Evaluation]:
    learner, data, state = take_step.learner, take_step.data, take_step.state
    rates = partial(_rates, task)
    for report in (step for step in task.report_steps if step > start):
        clock, totals = time.perf_counter(), Totals()
        looks = [*range(start - start % CHECK_EVERY + CHECK_EVERY, report, CHECK_EVERY), report]
        try:
            for first, last_step in pairwise([start, *looks]):
                pack.run(take_step, first + 1, last_step, rates, totals, again=last_step < report)
                means = totals.means(take_step.world_size)
                if (failure := not_finite(means)) is not None:
                    raise NonFiniteError(f"{failure} by step {last_step}")
        finally:
            pack.leave(take_step)
        metrics: dict[str, float] = {}
        last = False
        if rank == 0:
            seconds = time.perf_counter() - clock
            metrics = {f"train/{name}": value for name, value in means.items()}
            metrics["train/learning_rate"], kl_weight = rates(report)
            # With a target rate, that of the next step.
            metrics["train/kl_weight"] = float(state.steered(kl_weight))
            metrics["train/steps_per_second"] = (report - start) / seconds
            _measure_statistics(task, learner, data, state)
            metrics |= learner.evaluate(state.evaluated, data)
            last = task.ends(report, saver.note(report, metrics, state))
            saver.save(report, metrics, state, last=last)
        yield Evaluation(report, metrics, last, state.evaluated if rank == 0 else None)
        if last:  # other ranks cannot know: whoever iterates closes theirs
            return
        start = report


def _rates(task: TrainingTask, step: int) -> tuple[float, float]:
    """Learning rate and KL weight of a step."""
    trial, fraction = task.trial, (step - 1) / task.steps
    return (
        trial.learning_rate * learning_rate_factor(trial.lr_schedule, fraction, trial.lr_warmup, trial.lr_cycles),
        trial.kl_weight * kl_factor(trial.kl_schedule, fraction, trial.kl_warmup, trial.kl_cycles),
    )


def _measure_statistics(
    task: TrainingTask, learner: Learner[Any, Any, Any, Any], data: Any, state: TrainingState
) -> None:
    """Batch statistics of the averaged weights, by the same batches at every report: they are not those of the raw weights."""
    if state.evaluated is state.model or not has_statistics(state.evaluated):
        return
    trial = task.trial
    generator = torch.Generator(state.generator.device).manual_seed(named_seed(task.seed, "statistics"))
    with measuring(state.evaluated):
        for _ in range(math.ceil(MEASURED_SAMPLES / trial.batch_size)):
            state.evaluated(*learner.inputs(trial, data, learner.draw(trial, data, generator)))


def _found(task: TrainingTask, rank: int, world_size: int) -> Checkpoint | None:
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
