"""Linear effects of the tolerances, fitted to observed PSFs by ridge regression: the simple rival of a model of units.

K(unit) is taken for K(nominal) + sum of a_v dK/da_v, with the effects of each tolerance v from units in which it alone is off. What
is observed says how large the a_v are; the ridge's weight is the one that serves validation units best.

Shape legend: U = units, n = observed positions, H = held-out positions, V = tolerances, F = C K K values of a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.asbuilt.data import AsBuiltSplit, observed, rows
from trainables.asbuilt.evaluation import unit_errors
from trainables.asbuilt.simplex import nearest_kernels

WEIGHTS = torch.logspace(-3, 3, 13, dtype=torch.float64)
"""Of the ridge, in units of the mean squared size of an effect on what is observed."""


@dataclass(frozen=True)
class LinearEffects:
    """Nominal kernels [M, C, K, K] and effects [V, M, C, K, K] of one standard deviation, at points [M, d]."""

    nominal: Tensor
    effects: Tensor
    points: Tensor

    @classmethod
    def of(cls, nominal: AsBuiltSplit, alone: AsBuiltSplit) -> LinearEffects:
        """By central differences.

        Args:
            nominal: one unit.
            alone: 2V units, of which unit v is off by as much of tolerance v alone as unit V + v to the other side.
        """
        plus, minus = alone.kernels.chunk(2)
        step = alone.units.chunk(2)[0].diagonal()
        return cls(nominal.kernels[0], (plus - minus) / (2 * step[:, None, None, None, None]), nominal.points[0])

    def predict(self, seen: AsBuiltSplit, at: Tensor, weight: float) -> Tensor:
        """Kernels [U, H, C, K, K] of units observed at the same positions, at points [U, H, d] likewise."""
        here, there = rows(self.points, seen.points[0]), rows(self.points, at[0])
        design = self.effects[:, here].flatten(1).double()  # [V, n F]
        gram = design @ design.T
        size = gram.diagonal().mean()
        apart = (seen.kernels - self.nominal[here]).flatten(1).double()
        ridge = gram + weight * size * torch.eye(len(gram), dtype=gram.dtype)
        amounts = torch.linalg.solve(ridge, design @ apart.T).T.float()  # [U, V]
        moved = self.nominal[there].flatten() + amounts @ self.effects[:, there].flatten(1)
        return nearest_kernels(moved.view(len(amounts), len(there), *self.nominal.shape[1:]))

    def best_weight(self, validation: AsBuiltSplit, count: int) -> float:
        """Of `WEIGHTS`, the one with the least error of units of which so many PSFs are observed."""
        seen, away = observed(validation, count), validation.held_out
        errors = [unit_errors(self.predict(seen, away.points, float(w)), away.kernels).mean() for w in WEIGHTS]
        return float(WEIGHTS[int(torch.stack(errors).argmin())])
