"""Compiled loops: ray hits become kernels.

Splatting is DeepLens' own rule (`deeplens.imgsim.forward_integral`): a ray's unit of light is shared by the four pixels
around it with bilinear weights, and rays within half a pixel of the window's border, or beyond it, are lost.

T = side of the traced kernel in sensor pixels. Hits are in pixels, x right and y up, from the kernel's centre.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

# What `moments` sums, over the rays that reach the sensor: 1, x, y, x^2 + y^2; and over those that stay in the window: 1.
MOMENTS = 5
BLOCKED = np.uint32(0xFFFFFFFF)
"""Flag of a cell of the pupil through which no ray passes; the other flags have one bit per aperture that crosses it."""
BORDER = 1e-3  # of a pixel, at the window's edge, as in DeepLens


@njit(cache=True, nogil=True)
def _add(kernel: Array, moments: Array, x: float, y: float) -> None:
    moments[0] += 1.0
    moments[1] += x
    moments[2] += y
    moments[3] += x * x + y * y
    half = 0.5 * (kernel.shape[0] - 1)
    if abs(x) >= half - BORDER or abs(y) >= half - BORDER:
        return
    moments[4] += 1.0
    column, row = x + half, half - y
    c, r = int(column), int(row)
    right, down = column - c, row - r
    kernel[r, c] += (1.0 - down) * (1.0 - right)
    kernel[r, c + 1] += (1.0 - down) * right
    kernel[r + 1, c] += down * (1.0 - right)
    kernel[r + 1, c + 1] += down * right


@njit(cache=True, nogil=True)
def splat_hits(hits: Array, valid: Array, kernel: Array, moments: Array) -> None:
    """Add traced rays to a kernel.

    Args:
        hits: [S, 2] float64, x and y.
        valid: [S] bool.
        kernel, moments: [T, T] and [MOMENTS] float64, added to.
    """
    for i in range(len(hits)):
        if valid[i]:
            _add(kernel, moments, hits[i, 0], hits[i, 1])


@njit(cache=True, nogil=True)
def _cubic(t: float) -> tuple[float, float, float, float]:
    """Lagrange weights of the nodes -1, 0, 1, 2 at t in [0, 1]."""
    return (
        -t * (t - 1.0) * (t - 2.0) * (1.0 / 6.0),
        (t + 1.0) * (t - 1.0) * (t - 2.0) * 0.5,
        -(t + 1.0) * t * (t - 2.0) * 0.5,
        (t + 1.0) * t * (t - 1.0) * (1.0 / 6.0),
    )


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc", "nsz"})
def splat_map(
    hits: Array,
    heights: Array,
    flags: Array,
    step: float,
    turn: Array,
    shift: Array,
    pupil: Array,
    kernel: Array,
    moments: Array,
) -> None:
    """Add rays to a kernel whose hits are interpolated, by bicubic Lagrange, from those of a grid over half the pupil.

    Args:
        hits: [ny, nx, 2] float32, of rays through the grid's pupil points: the field point on the +x axis, y >= 0 but for
            the two rows before the first, its mirror images. x of column 0 is -(nx - 1) / 2 steps, y of row 0 -1.5.
        heights: [A, ny, nx] float32, the squared height of those rays at each aperture, 1 at its edge.
        flags: [ny, nx] uint32 of the cell to the right and below a node, see `BLOCKED`.
        step: of the grid, in pupil radii.
        turn: [2, 2] rotation by the field point's azimuth.
        shift: x and y added to the hits, in pixels, after the turn.
        pupil: [S, 2] float64 points of the unit disc, the field point being on the +x axis.
        kernel, moments: [T, T] and [MOMENTS] float64, added to.
    """
    nx = flags.shape[1]
    for i in range(len(pupil)):
        px, py = pupil[i, 0], pupil[i, 1]
        gx, gy = px / step + 0.5 * (nx - 1), abs(py) / step + 1.5
        cx, cy = int(gx), int(gy)
        flag = flags[cy, cx]
        if flag == BLOCKED:
            continue
        wx, wy = _cubic(gx - cx), _cubic(gy - cy)
        passes = True
        for aperture in range(heights.shape[0]):
            if flag >> np.uint32(aperture) & np.uint32(1):
                height = 0.0
                for b in range(4):
                    for a in range(4):
                        height += wy[b] * wx[a] * heights[aperture, cy - 1 + b, cx - 1 + a]
                passes = passes and height <= 1.0
        if not passes:
            continue
        x, y = 0.0, 0.0
        for b in range(4):
            rx, ry = 0.0, 0.0
            for a in range(4):
                rx += wx[a] * hits[cy - 1 + b, cx - 1 + a, 0]
                ry += wx[a] * hits[cy - 1 + b, cx - 1 + a, 1]
            x += wy[b] * rx
            y += wy[b] * ry
        if py < 0.0:
            y = -y
        _add(kernel, moments, turn[0, 0] * x + turn[0, 1] * y + shift[0], turn[1, 0] * x + turn[1, 1] * y + shift[1])


@njit(cache=True, nogil=True)
def interpolate(hits: Array, flags: Array, step: float, pupil: Array) -> tuple[Array, Array]:
    """Interpolated hits [M, P, 2] at pupil points [P, 2], y >= 0, and the flags [M, P] of their cells; see `splat_map`."""
    bundles, _, nx = flags.shape
    found = np.zeros((bundles, len(pupil), 2))
    cells = np.zeros((bundles, len(pupil)), np.uint32)
    for m in range(bundles):
        for i in range(len(pupil)):
            gx, gy = pupil[i, 0] / step + 0.5 * (nx - 1), pupil[i, 1] / step + 1.5
            cx, cy = int(gx), int(gy)
            cells[m, i] = flags[m, cy, cx]
            wx, wy = _cubic(gx - cx), _cubic(gy - cy)
            for b in range(4):
                for a in range(4):
                    for axis in range(2):
                        found[m, i, axis] += wy[b] * wx[a] * hits[m, cy - 1 + b, cx - 1 + a, axis]
    return found, cells
