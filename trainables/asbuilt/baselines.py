"""What one would do with a few measured PSFs and no model of units: the nominal lens, and interpolation.

What was observed at one depth and focus is interpolated over x and y alone. At another one, where these vary, only what the unit
was observed to differ by can be taken over: interpolation by itself is left out.

Shape legend: U = units, n = observed positions, H = held-out positions, C = channel, K = kernel side in pixels, d =
condition dimension: x, y, and depth and focus distance where these vary.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from deeplens_workers.asbuilt_data import OBSERVED
from trainables.asbuilt.data import AsBuiltSplit, observed, rows
from trainables.asbuilt.evaluation import GIVEN, name_of, unit_errors
from trainables.asbuilt.linear import LinearEffects
from trainables.learner import Judged
from trainables.timing import fastest

SPLINE = 9
"""Points from which on a spline is better than the mean."""
CHUNK = 16
"""Units that are predicted at once."""

Predict = Callable[[AsBuiltSplit, Tensor, AsBuiltSplit], Tensor]
"""Observed kernels and points of units [U, n, ...], points [U, H, d], the nominal lens -> kernels [U, H, C, K, K]."""


def weights(points: Tensor, at: Tensor) -> Tensor:
    """What each of n observed kernels counts at other positions, [H, n]: those of a thin-plate spline.

    Of few kernels it is their mean, which errs less than any plane through them: 0.74 relative L2 of units against 0.80 by four
    kernels of a triplet.

    Args:
        points, at: [n, 2] and [H, 2].
    """
    if len(points) < SPLINE:
        return torch.full((len(at), len(points)), 1 / len(points))
    fitted = RBFInterpolator(points.double().numpy(), np.eye(len(points)), kernel="thin_plate_spline")
    return torch.from_numpy(fitted(at.double().numpy())).float()


def nominal(seen: AsBuiltSplit, at: Tensor, lens: AsBuiltSplit) -> Tensor:
    """The lens as designed, whatever was observed."""
    return lens.kernels[:, rows(lens.points[0], at[0])].expand(len(at), -1, -1, -1, -1)


def interpolated(seen: AsBuiltSplit, at: Tensor, lens: AsBuiltSplit) -> Tensor:
    """The unit's own observed kernels between their positions."""
    return _constrained(_between(seen.kernels, seen.points, at))


def corrected(seen: AsBuiltSplit, at: Tensor, lens: AsBuiltSplit) -> Tensor:
    """The lens as designed, and what was observed to differ from it, interpolated."""
    there = lens.kernels[:, rows(lens.points[0], seen.points[0])]
    return _constrained(nominal(seen, at, lens) + _between(seen.kernels - there, seen.points, at))


# Name in trainables/asbuilt/system.py -> what predicts.
BASELINES: dict[str, Predict] = {"nominal": nominal, "interpolated": interpolated, "corrected": corrected}
AT_ONE_DISTANCE = "interpolated"


def predict_baselines(
    lens: AsBuiltSplit, alone: AsBuiltSplit, validation: AsBuiltSplit, test: AsBuiltSplit
) -> dict[str, Judged]:
    """Every baseline at held-out units, by its name in trainables/asbuilt/system.py.

    Args:
        lens: the nominal one, at all positions of the others.
        alone: units that are off by one tolerance each, at these positions (see `LinearEffects.of`).
    """
    found, distances = {}, lens.points.shape[-1] - 2
    for name, predict in BASELINES.items():
        if distances and name == AT_ONE_DISTANCE:
            continue
        errors = {name_of(count): _errors(predict, lens, test, count) for count in OBSERVED}
        found[name] = Judged(errors, _bytes(lens.kernels), _seconds(_given(predict, lens), test), data="nominal")
    effects = LinearEffects.of(lens, alone)
    errors, seconds = {}, 0.0
    for count in OBSERVED:
        fit = partial(effects.predict, weight=effects.best_weight(validation, count))
        errors[name_of(count)] = unit_errors(fit(observed(test, count), test.held_out.points), test.held_out.kernels)
        seconds = _seconds(fit, test)
    size = _bytes(effects.nominal) + _bytes(effects.effects)
    return found | {"linear": Judged(errors, size, seconds, data="effects")}


def _given(predict: Predict, lens: AsBuiltSplit) -> Callable[[AsBuiltSplit, Tensor], Tensor]:
    return lambda seen, at: predict(seen, at, lens)


def _bytes(kernels: Tensor) -> int:
    return kernels.numel() * kernels.element_size()


def _seconds(predict: Callable[..., Tensor], test: AsBuiltSplit) -> float:
    """To fit one unit to 4 PSFs and predict its held-out ones."""
    few = test.some(slice(1))
    _, seconds = fastest(lambda: predict(observed(few, GIVEN), few.held_out.points))
    return seconds


def _errors(predict: Predict, lens: AsBuiltSplit, test: AsBuiltSplit, count: int) -> Tensor:
    parts = []
    for start in range(0, len(test), CHUNK):
        part = test.some(slice(start, start + CHUNK))
        away = part.held_out
        parts.append(unit_errors(predict(observed(part, count), away.points, lens), away.kernels))
    return torch.cat(parts)


def _between(values: Tensor, points: Tensor, at: Tensor) -> Tensor:
    """Kernels of units [U, n, ...] between their positions [U, n, d] at others [U, H, d]; all units have the same ones."""
    return torch.einsum("hn,un...->uh...", weights(points[0, :, :2], at[0, :, :2]), values)


def _constrained(kernels: Tensor) -> Tensor:
    """Not negative and of unit sum. Lowered by a level, as a model's are, corrections would be worse (0.53, not 0.52)."""
    light = kernels.clamp_min(0)
    return light / light.sum(dim=(-2, -1), keepdim=True).clamp_min(1e-8)
