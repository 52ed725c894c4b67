"""What the systems' tests of packs share: trainings in one batched network, held against the same trainings alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from spaces.trial import Trial
from trainables.learner import Learner
from trainables.training.batched import Batched, alike
from trainables.training.state import TrainingState
from trainables.training.step import Step

AnyLearner = Learner[Any, Any, Any, Any]

LEAST = 1e-3
"""Rounding is judged as a part of this in what is smaller: a KL of 1e-6 nats is a difference of numbers near one."""


def batched(learner: AnyLearner, data: Any, trials: Sequence[Trial]) -> bool:
    """Whether trainings of these trials are batched."""
    return len({alike(step) for step in steps_of(learner, data, trials)}) == 1


def distance(learner: AnyLearner, data: Any, trials: Sequence[Trial], count: int) -> float:
    """How far `count` batched steps of trials, of seeds 0, 1, ..., are from their steps alone, the values that they return too.

    The largest over weights and values, each as a part of its largest entry.
    """
    alone, together = steps_of(learner, data, trials), steps_of(learner, data, trials)
    batch = Batched(together)
    worst = 0.0
    for number in range(1, count + 1):
        rates = [(trial.learning_rate, trial.kl_weight) for trial in trials]
        expected = [step(number, *rate) for step, rate in zip(alone, rates, strict=True)]
        found = batch([number] * len(trials), rates)
        for one, other in zip(expected, found, strict=True):
            assert one.keys() == other.keys()
            worst = max(worst, *(_difference(one[name], other[name]) for name in one))
    for a, b in zip(*([step.state.tensors() for step in steps] for steps in (alone, together)), strict=True):
        assert torch.equal(a.pop("generator"), b.pop("generator"))
        weights = [name for name in a if name.startswith(("model.", "average."))]
        worst = max(worst, *(_difference(a[name], b[name]) for name in weights))
    return worst


def steps_of(learner: AnyLearner, data: Any, trials: Sequence[Trial], graph: Any = None) -> list[Step]:
    """The steps of a training of each trial, of seeds 0, 1, ..."""
    device = torch.device(data.device)

    def state(seed: int, trial: Trial) -> TrainingState:
        return TrainingState(trial, lambda: learner.build(trial, data), seed, device)

    return [Step(trial, learner, data, state(seed, trial), graph=graph) for seed, trial in enumerate(trials)]


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / one.abs().max().clamp_min(LEAST))
