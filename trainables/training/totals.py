"""Sums over steps of what a step returns."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor


class Totals:
    """Sums of scalars by name over the steps of a training on this rank, kept on the device."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._steps = 0

    def add(self, values: dict[str, Tensor]) -> None:
        """What a step returned."""
        self._names = tuple(values)
        stacked = torch.stack(list(values.values()))
        self._sums = stacked if self._sums is None else self._sums.add_(stacked)
        self._steps += 1

    def means(self, world_size: int) -> dict[str, float]:
        """Over steps and ranks: the one place where training waits for the device."""
        assert self._sums is not None
        means = self._sums / self._steps
        if world_size > 1:
            dist.all_reduce(means)
        return dict(zip(self._names, (means / world_size).tolist(), strict=True))


def not_finite(means: dict[str, float]) -> str | None:
    """What is to blame: a term before the sum that it is in, and that before its gradient."""
    names = sorted(means, key=lambda name: name in ("loss", "grad_norm"))
    return next((f"train/{name} is {means[name]}" for name in names if not math.isfinite(means[name])), None)
