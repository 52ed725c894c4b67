"""When a trial's checkpoints are written: often enough to lose little work, seldom enough to cost little time."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from torch import Tensor

from spaces.metrics import sign
from trainables.training.checkpoints import Checkpoint, model_tensors, save_checkpoint
from trainables.training.state import TrainingState
from trainables.training.task import TrainingTask

SHARE = 0.02
"""Of the time between two checkpoints, what the first of them took to write: 0.25 s for the CVAE's defaults, so they are 12 s
apart. Written at every report, they would take 6 to 14 % of a search's time."""
MOST_APART = 60.0
"""Seconds: a disk that is slow once says nothing of the next time."""


class Saver:
    """Rank 0's checkpoints of one trial: `last`, to go on from, and `best`, to be judged and exported.

    Both are written together, so that a trial that goes on from `last` finds the `best` it had by then.

    Args:
        task: whose checkpoints, and by which metric they are the best.
    """

    def __init__(self, task: TrainingTask) -> None:
        self._task, self._directory = task, task.checkpoints
        self._sign = sign(task.mode)
        self._best = math.inf
        self.best_step = 0
        """The step of the best report, 0 before the first."""
        self._unsaved: Checkpoint | None = None
        """The best, while it is only in memory."""
        self._due = -math.inf

    def go_on_from(self, last: Checkpoint) -> None:
        """Take over what was the best by then."""
        self._best, self.best_step = self._sign * last.best, last.best_step

    def note(self, step: int, metrics: dict[str, float], state: TrainingState) -> int:
        """Keep the evaluated model if it is the best so far; the step of the best."""
        value = self._sign * metrics[self._task.metric]
        if value < self._best:
            self._best, self.best_step = value, step
            tensors = {name: tensor.clone() for name, tensor in model_tensors(state.evaluated).items()}
            self._unsaved = self._checkpoint(step, metrics, state, tensors)
        return self.best_step

    def save(self, step: int, metrics: dict[str, float], state: TrainingState, *, last: bool) -> None:
        """Write both if it is time to, or this is the trial's last report."""
        began = time.monotonic()
        if began < self._due and not last:
            return
        self.finish()
        checkpoint = self._checkpoint(step, metrics, state, state.tensors())
        save_checkpoint(self._directory, "last", replace(checkpoint, ended=last))
        ended = time.monotonic()
        self._due = ended + min((ended - began) / SHARE, MOST_APART)

    def finish(self) -> None:
        """Write the best if it is not yet on disk."""
        if self._unsaved is not None:
            save_checkpoint(self._directory, "best", self._unsaved)
            self._unsaved = None

    def _checkpoint(
        self, step: int, metrics: dict[str, float], state: TrainingState, tensors: dict[str, Tensor]
    ) -> Checkpoint:
        return Checkpoint(
            step, metrics, self._sign * self._best, self.best_step, self._task.system, state.model.config_dict, tensors
        )
