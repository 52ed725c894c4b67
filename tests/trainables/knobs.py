"""What the systems' tests of hyperparameters share: two small trainings that differ in one value must end differently."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spaces.trial import Trial
from tests.trainables.psf.synthetic import newest
from trainables.learner import Learner
from trainables.training.loop import train
from trainables.training.state import without_prefix
from trainables.training.task import TrainingTask

REPORTS = (2, 4, 8)
"""Steps of a small training at which it reports."""

Knobs = dict[str, tuple[dict[str, Any], list[Any]]]
"""Hyperparameter -> the values that it needs of others to act, and what it is changed to."""


class Outcome(NamedTuple):
    """How many reports a training made, and the weights that it left to be evaluated."""

    reports: int
    weights: dict[str, torch.Tensor]


def outcome_of(
    directory: Path, system: str, trial: Trial, learner: Learner[Any, Any, Any, Any], data: Any, metric: str
) -> Outcome:
    """Of a training of `REPORTS[-1]` steps, whose learner reports the metric."""
    task = TrainingTask(system, trial, 3, REPORTS[-1], REPORTS, str(directory), metric, "min")
    with closing(train(task, learner, data)) as reports:
        count = len(list(reports))
    tensors = newest(directory / "checkpoints").tensors
    return Outcome(count, without_prefix("average.module.", tensors) or without_prefix("model.", tensors))


def cases(knobs: Knobs) -> list[tuple[str, Any]]:
    """Each hyperparameter with each value that it is changed to."""
    return [(name, value) for name, (_, values) in knobs.items() for value in values]


def differ(one: Outcome, other: Outcome) -> bool:
    """Whether two trainings ended differently; of networks that have nothing in common nothing is said."""
    shared = one.weights.keys() & other.weights.keys()
    assert shared
    alike = all(torch.equal(one.weights[name], other.weights[name]) for name in shared)
    return one.reports != other.reports or not alike


class Trained:
    """Outcomes of trainings, each made once: most knobs are turned from the same values.

    Args:
        train: makes the outcome of the values by name.
    """

    def __init__(self, train: Callable[..., Outcome]) -> None:
        self._train = train
        self._known: dict[tuple[tuple[str, Any], ...], Outcome] = {}

    def __call__(self, **values: Any) -> Outcome:
        key = tuple(sorted(values.items()))
        if key not in self._known:
            self._known[key] = self._train(**values)
        return self._known[key]
