"""A small training of the CVAE on Gaussian blobs, and what it reports."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.psf.data import PsfTensors
from trainables.psf.learner import CvaePsfLearner
from trainables.psf.trial import CvaePsfTrial
from trainables.training.loop import Evaluation, train
from trainables.training.task import TrainingTask

LEARNER = CvaePsfLearner()
METRIC = "val/prior_rel_l2"
TIMING = "train/steps_per_second"
"""The one metric that differs from run to run."""
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


@dataclass
class Reports:
    """Remembers what was reported."""

    steps: list[int] = field(default_factory=list)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    last: int | None = None
    """The step whose report was made as the last."""

    def add(self, report: Evaluation) -> None:
        self.steps.append(report.step)
        self.metrics[report.step] = report.metrics
        if report.last:
            self.last = report.step


def task(directory: Path, steps: int = 40, every: int = 10, seed: int = 3, **changes: Any) -> TrainingTask:
    """A training of `TRIAL` with some hyperparameters changed."""
    return TrainingTask(
        system="cvae_psf",
        trial=TRIAL.model_copy(update=changes),
        seed=seed,
        steps=steps,
        report_steps=tuple(range(every, steps + 1, every)),
        directory=str(directory),
        metric=METRIC,
        mode="min",
    )


def trained(task: TrainingTask, data: PsfTensors, stop_at: int | None = None, **place: Any) -> Reports:
    """Train until the iterator ends, or close it after the report of a step; `place` are rank and world size."""
    reports = Reports()
    with closing(train(task, LEARNER, data, **place)) as training:
        for report in training:
            reports.add(report)
            if report.step == stop_at:
                break
    return reports


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    """All that a training of the same seed reports again."""
    return {name: value for name, value in metrics.items() if name != TIMING}
