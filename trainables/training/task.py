"""The task of training one trial. Plain data: it crosses from the driver to a lane, and the board unpickles it without torch."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spaces.metrics import Mode
from spaces.trial import Trial
from trainables.lanes.task import Progress, Worker


@dataclass(frozen=True)
class TrainingTask:
    """One training, from its first step or a checkpoint to its last report."""

    system: str
    """What is trained, by the name of its system."""
    trial: Trial
    seed: int
    steps: int
    """The full budget: schedules are fractions of it, also for a trial that is stopped early."""
    report_steps: tuple[int, ...]
    """Rising, the last one equal to `steps`."""
    directory: str
    """The trial's own; checkpoints go to `<directory>/checkpoints`."""
    metric: str
    """The objective: `best` is the checkpoint with the best value of it."""
    mode: Mode
    sets: Mapping[str, str] = field(default_factory=dict)
    """The data sets, by name, as the system's learner opens them."""
    compile: bool = False
    """The networks are compiled first."""
    cuda_graphs: bool = True
    """On a GPU, steps are made by CUDA graphs where they can be."""
    events: str | None = None
    """Directory of TensorBoard's event files; none are written without it."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What was searched, for TensorBoard."""
    picture_steps: tuple[int, ...] = ()
    """Reports with pictures, beside the last."""

    @property
    def checkpoints(self) -> Path:
        return Path(self.directory) / "checkpoints"

    def ends(self, step: int, best_step: int) -> bool:
        """Whether the report at a step is the last, the best one so far being that at `best_step`."""
        plateau = self.trial.plateau * self.steps
        return step == self.steps or (plateau > 0 and step - best_step >= plateau)

    def reports(self, worker: Worker) -> Generator[Progress]:
        """Train on the data that the worker's process keeps open; see `trainables.lanes.task.Task`."""
        from trainables.training.work import train_and_log

        return train_and_log(self, worker)
