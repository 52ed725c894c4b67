"""Where the light of a field point crosses the entrance pupil's plane: all of it, and little else.

Off the axis a real pupil is neither the axis' disc nor of its size: it moves, it stretches, and other apertures cut it. So
each bundle's rays are traced on a coarse grid as if no aperture stopped them, along with their heights at every aperture.
Light passes where no height is above its aperture's edge. The grid is moved and scaled until it holds all of that region,
and an ellipse around it is the part of the plane from which rays are drawn.

M = bundle (one object point, one wavelength), A = aperture, ny and nx = rows and columns of the grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.raytrace import Pupils, RayTracer
from deeplens_workers.splat import light_region

Array = NDArray[np.float64]

# Nodes along x, and along y for a centred lens, whose pupils are symmetric: the half with y > 0 is enough. The product is a
# multiple of 64, so that torch's vector code meets every bundle alike.
COLUMNS, ROWS = 16, 8
STEP = 2 / (COLUMNS - 3)  # in half sides of the box, beyond which the grid reaches by one node
# Half side of the first box, in radii of the paraxial pupil.
REACH = 1.3
# A region narrower than so many steps is looked at again with a finer grid.
LEAST_STEPS = 4.0
# How often the box is moved or scaled before the last one is taken.
LOOKS = 10
# Of the ellipse, for what lies between the points at which light was seen to pass.
MARGIN = 1.01


def find_pupils(
    tracer: RayTracer, objects: Array, wavelengths_um: Array, symmetric: bool, near: Pupils | None = None
) -> Pupils:
    """The pupils of bundles from objects [M, 3]; radii are zero where no light passes.

    Args:
        wavelengths_um: [M].
        symmetric: the lens is centred and the objects lie on the x axis.
        near: pupils that are nearly these, such as a similar lens'.
    """
    _, radius = tracer.pupil(objects)
    found = Pupils(np.zeros((len(objects), 2)), np.zeros((len(objects), 2)), np.zeros(len(objects)))
    center, half = np.zeros((len(objects), 2)), np.tile(REACH * radius[:, None], (1, 2))
    if near is not None:
        known = (near.radii > 0).all(axis=1)
        center[known], half[known] = near.center[known], REACH * near.radii[known]
    left = np.arange(len(objects))
    for look in range(LOOKS):
        seen, shift, scale = _look(tracer, objects[left], wavelengths_um[left], center[left], half[left], symmetric)
        found.center[left], found.radii[left], found.light[left] = seen.center, seen.radii, seen.light
        center[left] += half[left] * shift
        half[left] *= scale
        left = left[(scale != 1.0).any(axis=1)]
        if not len(left):
            break
        if look == LOOKS - 2:  # what the last box should still cut is cut: rather too many rays than too few
            half[left] *= 1.5
    return found


def _look(
    tracer: RayTracer, objects: Array, waves: Array, center: Array, half: Array, symmetric: bool
) -> tuple[Pupils, Array, Array]:
    """Pupils as seen in boxes of centres and half sides [M, 2], and which boxes would show them better.

    Returns:
        the pupils; shifts of the boxes' centres [M, 2] in half sides; scales of their half sides [M, 2], one where a box
        shows its pupil well enough.
    """
    x = (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * STEP
    y = x[ROWS:] if symmetric else x
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    places = center[:, None] + half[:, None] * grid.reshape(-1, 2)
    rays = tracer.beyond_apertures(objects, places, waves)
    heights = rays.heights.reshape(len(objects), -1, len(y), len(x))
    worst = np.where(np.isnan(heights), np.inf, heights).max(axis=1)
    density = _density(objects, tracer.pupil(objects)[0], places).reshape(len(objects), len(y), len(x))
    if symmetric:
        heights, density = (np.concatenate([v[..., 1::-1, :], v], axis=-2) for v in (heights, density))
    region = np.empty((len(objects), 6))
    light_region(heights, density.astype(np.float32), symmetric, region)
    low, high, total, growth = region[:, 0:2], region[:, 2:4], region[:, 4], region[:, 5]
    if symmetric:
        low[:, 1] = -high[:, 1]
    middle, extent = STEP * (low + high) / 2, STEP * (high - low) / 2
    radii = MARGIN * growth[:, None] * extent * half
    light = (2 if symmetric else 1) * STEP**2 * half.prod(axis=1) * total
    seen = Pupils(center + half * middle, radii, light)
    return seen, *_better_box(worst, grid, middle, extent, growth > 0, symmetric)


def _density(objects: Array, plane: Array, places: Array) -> Array:
    """Projected solid angle [M, S] in sr, seen from objects [M, 3], of each mm^2 at places [M, S, 2] of planes z = [M]."""
    across = np.square(places - objects[:, None, :2]).sum(axis=-1)
    along = np.square(plane - objects[:, 2])[:, None]
    return np.asarray(along / np.square(across + along))


def _better_box(
    worst: Array, grid: Array, middle: Array, extent: Array, light: NDArray[np.bool_], symmetric: bool
) -> tuple[Array, Array]:
    """Shifts [M, 2] and scales [M, 2] of the boxes, in half sides; a scale of one for those that serve.

    Args:
        worst: [M, ny, nx] squared height at the aperture that stops a ray first.
        grid: [ny, nx, 2] the nodes.
        middle, extent: [M, 2] of the region that light passes.
        light: [M] whether any does.
    """
    rim = (np.abs(grid) > 1 - STEP / 2).any(axis=-1)
    cut = (rim & (worst <= 1.0)).any(axis=(1, 2))
    thin = (extent < LEAST_STEPS / 2 * STEP).any(axis=1)
    # Between two nodes a sliver may pass: there the light comes nearest to it.
    nearest = worst.reshape(len(worst), -1).argmin(axis=1)
    lost = rim.reshape(-1)[nearest] | np.isinf(worst).all(axis=(1, 2))
    at = grid.reshape(-1, 2)[nearest] * [1, not symmetric]
    cases = [(~light & lost)[:, None], ~light[:, None], cut[:, None], thin[:, None]]
    shift = np.select(cases, [0.0, at, middle, middle], 0.0)
    scale = np.select(cases, [2.0, 2.5 * STEP, 1.6, np.minimum(REACH * extent + STEP, 0.99)], 1.0)
    return shift, np.broadcast_to(scale, shift.shape)
