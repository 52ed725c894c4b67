"""Training of one trial, from the first step or a checkpoint to the last or until told to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from spaces.trial import CvaePsfTrial
from trainables.checkpoint import Checkpoint, load_checkpoint, model_tensors, save_checkpoint
from trainables.data import PsfTensors
from trainables.losses import effective_beta, weighted_loss
from trainables.metrics import evaluate
from trainables.schedules import kl_factor, learning_rate_factor
from trainables.training_state import TrainingState
from trainables.vae import CvaeConfig

# Called on every rank at every report step; True to go on. Metrics are complete on rank 0 and empty on the others.
ReportFunction = Callable[[int, dict[str, float]], bool]

CHECK_EVERY = 50
"""Steps between two looks at whether the loss is finite; each look waits for the device."""
TERMS = ("mse", "kl", "kl_free", "smooth", "loss", "grad_norm")


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

    @property
    def checkpoints(self) -> Path:
        return Path(self.directory) / "checkpoints"


def train_trial(
    task: TrialTask, data: PsfTensors, report: ReportFunction, *, rank: int = 0, world_size: int = 1
) -> bool:
    """Train one trial on this rank's part of every batch; True if it ran to the end, False if told to stop.

    W workers with a global batch B train the same model as one worker with batch B (on a stream, each rank has its own copy of
    the buffer, and its part of a batch is drawn from that). Before a report, rank 0 has saved
    the `last` checkpoint, and `best` if the objective improved. A trial found half done in its directory goes on from its
    newest valid checkpoint, and makes that checkpoint's report again, in case it was saved but never heard: whoever
    receives reports ignores a step that it knows.

    Args:
        data: on this rank's device. With `world_size` > 1 the process group is initialised.

    Raises:
        NonFiniteError: on every rank, naming step and term.
    """
    trial, device = task.trial, data.device
    assert task.report_steps[-1] == task.steps
    # The same on all ranks: each draws the whole batch and takes its part.
    state = TrainingState(trial, _config(trial, data), task.seed, device)
    start, best = 0, None
    if (found := _found(task, rank, world_size)) is not None:
        state.restore(found.tensors)
        start, best = found.step, found.best
        if not report(start, found.metrics if rank == 0 else {}):
            return False
    network = DistributedDataParallel(state.model) if world_size > 1 else state.model

    count, pair_count = len(data.train), len(data.pairs)
    totals, since, clock = torch.zeros(len(TERMS), device=device), start, time.perf_counter()
    for step in range(start + 1, task.steps + 1):
        fraction = (step - 1) / task.steps
        kl_weight = trial.kl_weight * kl_factor(trial.kl_schedule, fraction, trial.kl_warmup, trial.kl_cycles)
        learning_rate = trial.learning_rate * learning_rate_factor(trial.lr_schedule, fraction, trial.lr_warmup)

        batch = torch.randint(count, (trial.batch_size,), generator=state.generator, device=device)
        noise = torch.randn(trial.batch_size, trial.latent_dim, generator=state.generator, device=device)
        pairs = torch.randint(pair_count, (trial.smooth_pairs,), generator=state.generator, device=device)
        batch, noise, pairs = (drawn.tensor_split(world_size)[rank] for drawn in (batch, noise, pairs))

        kernels, points, neighbours = data.train.kernels[batch], data.train.points[batch], data.pairs[pairs]
        data.refresh(trial.batch_size)
        terms = network(kernels, points, noise, neighbours.movedim(1, 0), trial.smooth_term)
        values = weighted_loss(terms, trial, kl_weight, world_size)
        state.optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        values["grad_norm"] = torch.nn.utils.clip_grad_norm_(state.model.parameters(), trial.grad_clip)
        state.update(learning_rate)
        totals += torch.stack([values[name].detach() for name in TERMS])

        reporting = step in task.report_steps
        if not (reporting or step % CHECK_EVERY == 0):
            continue
        means = _means(totals / (step - since), world_size)
        _check_finite(means, step)
        if not reporting:
            continue
        metrics: dict[str, float] = {}
        if rank == 0:
            seconds = time.perf_counter() - clock
            metrics = {f"train/{name}": value for name, value in means.items()}
            metrics["train/kl_weight"] = kl_weight
            metrics["train/effective_beta"] = effective_beta(
                kl_weight, data.train.kernels[0].numel(), trial.recon_scale
            )
            metrics["train/learning_rate"] = learning_rate
            metrics["train/steps_per_second"] = (step - since) / seconds
            metrics |= evaluate(state.evaluated, data.validation)
            best = _save(task, step, metrics, best, state)
        if not report(step, metrics):
            return False
        totals, since, clock = totals.zero_(), step, time.perf_counter()
    return True


def _found(task: TrialTask, rank: int, world_size: int) -> Checkpoint | None:
    """Where to go on: rank 0's newest valid checkpoint, for all ranks, whatever the others' disks hold."""
    found = [load_checkpoint(task.checkpoints, "last") if rank == 0 else None]
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


def _check_finite(means: dict[str, float], step: int) -> None:
    for name, value in means.items():
        if not math.isfinite(value):
            raise NonFiniteError(f"train/{name} is {value} by step {step}")


def _save(task: TrialTask, step: int, metrics: dict[str, float], best: float | None, state: TrainingState) -> float:
    """Save `last`, and `best` if the objective improved; returns the best value so far."""
    value = metrics[task.metric]
    improved = best is None or (value < best if task.mode == "min" else value > best)
    best = value if improved or best is None else best
    config = state.model.config
    if improved:
        tensors = model_tensors(state.evaluated)
        save_checkpoint(task.checkpoints, "best", Checkpoint(step, metrics, best, config, tensors))
    save_checkpoint(task.checkpoints, "last", Checkpoint(step, metrics, best, config, state.tensors()))
    return best
