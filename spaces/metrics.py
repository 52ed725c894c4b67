"""Metrics: a number that a trial reports is declared once, by its system, and named nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Mode = Literal["min", "max"]

HELD_OUT, SEALED, TRAINING = "val/", "test/", "train/"
"""Prefixes: measured on the validation set, on the sealed test set, and while training."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number.

    Args:
        name: with its prefix.
        mode: None for a diagnostic that has no better direction.
        title: heading of its column in the tables of a run's end; it is in none without.
        per_item: each held-out item has a value of its own, whose mean this is. Such a metric is measured at the test set as well.
            If it has a direction it can be an objective, as the finals need the values for their intervals.
        ratio: a quotient of two of its values means something; of decibels or nats only a difference does.
        diagnostic: it has a value per item, and yet no search may optimise it.
    """

    name: str
    unit: str
    mode: Mode | None
    meaning: str
    title: str = ""
    per_item: bool = False
    ratio: bool = False
    diagnostic: bool = False

    @property
    def measure(self) -> str:
        """The name without its prefix."""
        return self.name.partition("/")[2]

    @property
    def short(self) -> str:
        """What a table calls it."""
        return self.title or self.measure


def sign(mode: Mode) -> float:
    """What makes smaller better: 1 or -1."""
    return 1.0 if mode == "min" else -1.0


def better(mode: Mode, value: float, than: float) -> bool:
    """Whether one value is better than another."""
    return sign(mode) * value < sign(mode) * than


def best(mode: Mode, values: Iterable[float]) -> float:
    """The best of some values."""
    return min(values) if mode == "min" else max(values)


def metric_table(*metrics: Metric) -> dict[str, Metric]:
    """Metrics by name. What has a value per item under `val/` has its name under `test/` too."""
    table = {metric.name: metric for metric in metrics}
    for metric in metrics:
        if metric.per_item:
            table[SEALED + metric.measure] = replace(metric, name=SEALED + metric.measure)
    return table


# What every training reports, whatever its system.
TRAINING_METRICS = (
    Metric("train/loss", "1", None, "the weighted sum that is minimised; not comparable between trials"),
    Metric("train/kl", "nats", None, "raw KL per sample"),
    Metric("train/kl_free", "nats", None, "KL per sample after free bits: what the loss sees"),
    Metric("train/kl_weight", "1", None, "KL weight after warm-up schedule at this step"),
    Metric(
        "train/effective_beta",
        "1",
        None,
        "beta of a unit-variance Gaussian decoder with summed reductions, a mean since the last report",
    ),
    Metric("train/learning_rate", "1", None, "learning rate at this step"),
    Metric("train/grad_norm", "1", None, "gradient norm before clipping"),
    Metric("train/steps_per_second", "1/s", "max", "optimizer steps per second since the last report"),
)
