"""The tolerances of a unit, from some of its kernels: a fit through the ray tracer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from deeplens_workers.kernels import Tracing, Units
from deeplens_workers.render import KernelRenderer
from deeplens_workers.tolerances import Tolerances

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
    evaluations: int = 12,
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
