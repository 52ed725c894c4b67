"""The tolerances of a unit, from some of its kernels: a fit through the ray tracer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from deeplens_workers.asbuilt_data import AsBuiltData
from deeplens_workers.asbuilt_preparation import tracings, unit_focus
from deeplens_workers.kernels import Tracing, Units
from deeplens_workers.preparation import lens_of
from deeplens_workers.render import KernelRenderer, load
from deeplens_workers.tolerances import Tolerances
from spaces.system import Source

Array = NDArray[np.float64]

# Standard deviations: a step that moves a kernel by more than its rays' noise.
STEP = 0.05
# Relative L2 of a kernel at which its residual weighs as much as a tolerance that is off by one standard deviation. What rays
# and tolerances do not explain is about so much.
RESIDUAL = 0.02
# Of the renderer: residuals of a fit need fewer rays than kernels that are judged.
RAYS = 2048


def fit_unit(
    renderer: KernelRenderer,
    tolerances: Tolerances,
    focus_mm: float,
    points: NDArray[np.float32],
    kernels: NDArray[np.float32],
    tracing: Tracing,
    evaluations: int = 8,
) -> Array:
    """The most likely deviations [V] in standard deviations, given kernels [n, C, K, K] at field points [n, 3 or 4].

    Gauss and Newton's method with derivatives by differences: one build and one rendering for each tolerance and step. It starts
    from the design.

    Args:
        evaluations: of the derivatives, at most.
    """
    quick = replace(tracing, rays=min(tracing.rays, RAYS))
    size = np.linalg.norm(kernels.reshape(len(kernels), -1), axis=1)[:, None, None, None]
    scale = 1 / (size * RESIDUAL * np.sqrt(len(kernels)))
    count = len(renderer.manufacture(tolerances).deviations)

    def residuals(values: Array) -> Array:
        units = Units(tolerances, values[None], focus_mm)
        made = renderer.render_units(points, quick, units).kernels
        return np.concatenate([((made - kernels) * scale).ravel(), values])

    def jacobian(values: Array) -> Array:
        here = residuals(values)
        moved = values + STEP * np.eye(count)
        return np.stack([(residuals(one) - here) / STEP for one in moved], axis=1)

    return np.asarray(least_squares(residuals, np.zeros(count), jac=jacobian, max_nfev=evaluations).x)


LEAST_UNITS = 2
"""Of fewer there is no interval."""


@dataclass(frozen=True)
class FittedUnits:
    """Kernels [U, H, C, K, K] of the units that there was time for, seconds for each of them, and bytes of the lens file."""

    kernels: NDArray[np.float32]
    seconds: float
    bytes: int


def fitted_units(
    data: AsBuiltData,
    source: Source,
    points: NDArray[np.float32],
    kernels: NDArray[np.float32],
    observed: Sequence[int],
    held_out: int,
    seconds: float,
) -> FittedUnits:
    """Fit the first units, for some seconds, and render them at their held-out positions.

    Args:
        points, kernels: [U, P, 3 or 4] and [U, P, C, K, K], of each unit's positions.
        observed: the positions that a unit is fitted to.
        held_out: the first of the positions at which it is rendered.
    """
    lens = lens_of(source)
    renderer, (tracing, _), focus_mm = load(lens, data.pixel_pitch_um), tracings(data), unit_focus(data)
    found: list[NDArray[np.float32]] = []
    began = time.perf_counter()
    seen = list(observed)
    for at, unit in zip(points, kernels, strict=True):
        values = fit_unit(renderer, data.tolerances, focus_mm, at[seen], unit[seen], tracing)
        made = Units(data.tolerances, values[None], focus_mm)
        found.append(renderer.render_units(at[held_out:], tracing, made).kernels)
        if len(found) >= LEAST_UNITS and time.perf_counter() - began > seconds:
            break
    each = (time.perf_counter() - began) / len(found)
    return FittedUnits(np.stack(found), each, len(lens.text.encode()))
