"""What the systems' tests of hyperparameters share: two small trainings that differ in one value must end differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Knobs = dict[str, tuple[dict[str, Any], list[Any]]]
"""Hyperparameter -> the values that it needs of others to act, and what it is changed to."""


class Outcome(NamedTuple):
    """How many reports a training made, and the weights that it left to be evaluated."""

    reports: int
    weights: dict[str, torch.Tensor]


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
