"""Compiled loops: ray hits become kernels.

Splatting is DeepLens' own rule (`deeplens.imgsim.forward_integral`): a ray's unit of light is shared by the four pixels
around it with bilinear weights. So a pixel gathers light by a triangle. That is a box with edges as wide as itself, over which
light passes linearly to the next pixel, a ramp of 1. With a lesser one a pixel gathers the light that falls on it, but for
its edges. Rays of which a part would come to lie outside the window are lost, as those on the border are in DeepLens.

G = side of the kernel that rays are put on, in its own pixels. Hits are in sensor pixels, x right and y up, from the kernel's
centre.
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
SAMPLES = 6  # along each side of a cell; an even number keeps them off a mirror's line
BORDER = 1e-3  # of a pixel, at the window's edge, as in DeepLens
# Cosine over a turn; sine is three quarters of a turn ahead. Interpolated linearly, it is right to 3e-7.
_ANGLES = 4096
_COSINE = np.cos(np.arange(_ANGLES + 2) * (2 * np.pi / _ANGLES)).astype(np.float32)

# Numba makes float64 of a float32 and a Python number.
ZERO, ONE, TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
HALF, SIXTH = np.float32(0.5), np.float32(1 / 6)

# The order of sums is fixed; contraction and the rest change how a sum is rounded, alike on every call.
_compiled: Any = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@_compiled
def disc_points(sobol: Array, shift: Array) -> Array:
    """Points [S, 2] float32 spread evenly over the unit disc.

    Args:
        sobol, shift: [S, 2] and [2] uint32; their exclusive or, over 2^32, is a point of the unit square.
    """
    points = np.empty((len(sobol), 2), np.float32)
    for i in range(len(sobol)):
        radius = np.sqrt(np.float32((sobol[i, 0] ^ shift[0]) + 0.5) * np.float32(2.0**-32))
        angle = np.float32((sobol[i, 1] ^ shift[1]) >> np.uint32(8)) * np.float32(_ANGLES * 2.0**-24)
        node = np.int32(angle)
        rest = angle - np.float32(node)
        quarter = node + _ANGLES * 3 // 4
        quarter -= _ANGLES if quarter >= _ANGLES else 0
        cosine = _COSINE[node] + rest * (_COSINE[node + 1] - _COSINE[node])
        sine = _COSINE[quarter] + rest * (_COSINE[quarter + 1] - _COSINE[quarter])
        points[i, 0] = radius * cosine
        points[i, 1] = radius * sine
    return points


@_compiled
def splat_hits(hits: Array, valid: Array, zoom: float, ramp: float, kernel: Array, moments: Array) -> None:
    """Add traced rays to a kernel.

    Args:
        hits: [S, 2] float64, x and y.
        valid: [S] bool.
        zoom, ramp: see `splat_map`.
        kernel, moments: [G, G] float32 and [MOMENTS] float64, added to.
    """
    middle = 0.5 * (len(kernel) - 1)
    half = middle + 0.5
    edge = half - 0.5 * ramp - BORDER
    for i in range(len(hits)):
        if not valid[i]:
            continue
        x, y = hits[i, 0], hits[i, 1]
        moments[0] += 1.0
        moments[1] += x
        moments[2] += y
        moments[3] += x * x + y * y
        x, y = x * zoom, y * zoom
        if abs(x) < edge and abs(y) < edge:
            moments[4] += 1.0
            if ramp == 1.0:
                _share(kernel, x + middle, middle - y)
            else:
                _gather(kernel, x + half, half - y, ramp)


@njit(inline="always")
def _gather(kernel: Array, column: Any, row: Any, ramp: Any) -> None:
    """Into the pixel that a ray falls on, counted from the window's corner, and near an edge into its neighbour."""
    c, r = np.int32(column), np.int32(row)
    right, down = column - np.float32(c) - HALF, row - np.float32(r) - HALF
    across = max(ZERO, (abs(right) - HALF) / ramp + HALF)
    along = max(ZERO, (abs(down) - HALF) / ramp + HALF)
    kernel[r, c] += (ONE - along) * (ONE - across)
    if across > ZERO or along > ZERO:
        c_next, r_next = c + (1 if right > ZERO else -1), r + (1 if down > ZERO else -1)
        if across > ZERO:
            kernel[r, c_next] += (ONE - along) * across
        if along > ZERO:
            kernel[r_next, c] += along * (ONE - across)
        if across > ZERO and along > ZERO:
            kernel[r_next, c_next] += along * across


@njit(inline="always")
def _share(kernel: Array, column: float, row: float) -> None:
    c, r = np.int32(column), np.int32(row)
    right, down = column - np.float32(c), row - np.float32(r)
    kernel[r, c] += (ONE - down) * (ONE - right)
    kernel[r, c + 1] += (ONE - down) * right
    kernel[r + 1, c] += down * (ONE - right)
    kernel[r + 1, c + 1] += down * right


@njit(inline="always")
def cubic_weights(t: Any) -> tuple[Any, Any, Any, Any]:
    """Lagrange weights of the nodes -1, 0, 1, 2 at t, best in [0, 1]."""
    return (
        -t * (t - ONE) * (t - TWO) * SIXTH,
        (t + ONE) * (t - ONE) * (t - TWO) * HALF,
        -(t + ONE) * t * (t - TWO) * HALF,
        (t + ONE) * t * (t - ONE) * SIXTH,
    )


@_compiled
def _combine(nodes: Array, first: Array, weights: Array) -> Array:
    """Sums [P, n, 2] float32 of rows of nodes [N, n, 2], float32, those from first [P] on, with weights [P, 8]."""
    sums = np.empty((len(first), nodes.shape[1], 2), np.float32)
    source, target = nodes.reshape(len(nodes), -1), sums.reshape(len(first), -1)
    for row in range(len(first)):
        w, rows, into = weights[row], source[first[row] : first[row] + 8], target[row]
        for k in range(len(into)):
            low = w[0] * rows[0, k] + w[1] * rows[1, k] + w[2] * rows[2, k] + w[3] * rows[3, k]
            high = w[4] * rows[4, k] + w[5] * rows[5, k] + w[6] * rows[6, k] + w[7] * rows[7, k]
            into[k] = low + high
    return sums


@_compiled
def refine(nodes: Array, first_x: Array, weights_x: Array, first_y: Array, weights_y: Array) -> Array:
    """Values [P, Q, 2] float32 on a grid finer than that of nodes [ny, nx, 2], float32.

    Args:
        first_x, first_y: [Q] and [P], the first of the nodes that each column or row is a weighted sum of.
        weights_x, weights_y: [Q, 8] and [P, 8] float32 of these.
    """
    # Along x by columns: the compiler's vectors then run along y.
    columns = _combine(np.ascontiguousarray(nodes.transpose(1, 0, 2)), first_x, weights_x)
    fine: Array = _combine(np.ascontiguousarray(columns.transpose(1, 0, 2)), first_y, weights_y)
    return fine


@_compiled
def _passes(heights: Array, flag: Any, gx: float, gy: float) -> bool:
    """Whether a ray passes the apertures that cross its cell."""
    for aperture in range(len(heights)):
        if flag & np.uint32(1) and _bicubic(heights[aperture], gx, gy) > ONE:
            return False
        flag = flag >> np.uint32(1)
    return True


@njit(inline="always")
def _bicubic(nodes: Array, gx: float, gy: float) -> Any:
    # In the outermost cells from the last four nodes.
    cx, cy = min(max(np.int32(gx), 1), nodes.shape[1] - 3), min(max(np.int32(gy), 1), nodes.shape[0] - 3)
    wx, wy = cubic_weights(gx - np.float32(cx)), cubic_weights(gy - np.float32(cy))
    value = np.float32(0.0)
    for b in range(4):
        row = nodes[cy - 1 + b]
        value += wy[b] * (wx[0] * row[cx - 1] + wx[1] * row[cx] + wx[2] * row[cx + 1] + wx[3] * row[cx + 2])
    return value


@njit(inline="always")
def _bilinear(nodes: Array, gx: float, gy: float) -> Any:
    cx, cy = np.int32(gx), np.int32(gy)
    a, b = gx - np.float32(cx), gy - np.float32(cy)
    above = (ONE - a) * nodes[cy, cx] + a * nodes[cy, cx + 1]
    return (ONE - b) * above + b * ((ONE - a) * nodes[cy + 1, cx] + a * nodes[cy + 1, cx + 1])


@_compiled
def light_region(heights: Array, weights: Array, symmetric: bool, region: Array) -> None:
    """The parts of pupils that light passes, by samples between the nodes of their grids; the outermost cells are left out.

    Args:
        heights: [M, A, ny, nx] float32, squared, 1 at an aperture's edge, NaN where unknown; bicubic. If `symmetric`, the
            first two rows mirror the next two, and only what lies above the mirror's line is sampled.
        weights: [M, ny, nx] float32 of the nodes; a cell has the mean of its corners'.
        region: [M, 6] float64, written: lowest x and y, highest x and y, in steps from the middle of the grid, or above the
            mirror's line; sum of the cells' weights, those of cut cells in proportion; by how much the ellipse between these
            bounds has to grow to hold all samples.
    """
    bundles, apertures, ny, nx = heights.shape
    middle_x, middle_y = 0.5 * (nx - 1), 1.5 if symmetric else 0.5 * (ny - 1)
    xs, ys = np.empty(SAMPLES * SAMPLES * ny * nx), np.empty(SAMPLES * SAMPLES * ny * nx)
    for m in range(bundles):
        count, total = 0, 0.0
        for row in range(1, ny - 2):
            for column in range(1, nx - 2):
                cut, blocked, unknown = np.uint32(0), False, False
                for aperture in range(apertures):
                    under, over = False, False
                    for corner in range(4):
                        value = heights[m, aperture, row + corner // 2, column + corner % 2]
                        unknown = unknown or np.isnan(value)
                        under, over = under or value <= ONE, over or not value <= ONE
                    blocked = blocked or not under
                    # Near its edge an aperture may cut a cell whose corners all pass.
                    if over or _near_edge(heights[m, aperture], row, column):
                        cut |= np.uint32(1) << np.uint32(aperture)
                if blocked and (unknown or _far_outside(heights[m], row, column)):
                    continue
                corners = weights[m, row : row + 2, column : column + 2]
                weight = 0.25 / SAMPLES**2 * (corners[0, 0] + corners[0, 1] + corners[1, 0] + corners[1, 1])
                whole = cut == 0 and not unknown and not (symmetric and row < middle_y)
                if whole:  # its corners stand for it
                    total += weight * SAMPLES**2
                step = SAMPLES - 1 if whole else 1
                for sample in range(0, SAMPLES * SAMPLES, step):
                    if whole and sample % SAMPLES % step + sample // SAMPLES % step > 0:
                        continue
                    gx = column + (sample % SAMPLES + 0.5) / SAMPLES
                    gy = row + (sample // SAMPLES + 0.5) / SAMPLES
                    if symmetric and gy < middle_y:
                        continue
                    if whole:
                        xs[count], ys[count] = gx - middle_x, gy - middle_y
                        count += 1
                    elif cut == 0 or unknown or _passes_near(heights[m], cut, np.float32(gx), np.float32(gy)):
                        total += 0.0 if unknown else weight
                        xs[count], ys[count] = gx - middle_x, gy - middle_y
                        count += 1
        _enclose(xs[:count], ys[:count], symmetric, region[m])
        region[m, 4] = total


@_compiled
def _passes_near(heights: Array, flag: Any, gx: float, gy: float) -> bool:
    """Whether a ray passes the apertures of a flag, in a cell near which some rays may not be known."""
    for aperture in range(len(heights)):
        if flag & np.uint32(1):
            height = _bicubic(heights[aperture], gx, gy)
            if np.isnan(height):
                height = _bilinear(heights[aperture], gx, gy)
            if height > ONE:
                return False
        flag = flag >> np.uint32(1)
    return True


@_compiled
def _near_edge(nodes: Array, row: int, column: int) -> bool:
    """Whether an aperture's edge is near enough a cell to cross it between its corners: a node around it is beyond."""
    near = False
    for node in range(16):
        near = near or not nodes[row - 1 + node // 4, column - 1 + node % 4] <= ONE
    return near


@_compiled
def _far_outside(heights: Array, row: int, column: int) -> bool:
    """Whether an aperture is passed by none of the nodes around a cell, so that it stops all of the cell's rays."""
    for aperture in range(len(heights)):
        over = True
        for node in range(16):
            over = over and not heights[aperture, row - 1 + node // 4, column - 1 + node % 4] <= ONE
        if over:
            return True
    return False


@_compiled
def _enclose(xs: Array, ys: Array, symmetric: bool, region: Array) -> None:
    """Write bounds of points and the growth of the ellipse between them; see `light_region`."""
    region[:] = 0.0
    if not len(xs):
        return
    half = 0.5 / SAMPLES
    left, right, low, high = xs.min() - half, xs.max() + half, ys.min() - half, ys.max() + half
    if symmetric:
        low = -high
    growth = 0.0
    for i in range(len(xs)):
        x, y = (2 * xs[i] - left - right) / (right - left), (2 * ys[i] - low - high) / (high - low)
        growth = max(growth, x * x + y * y)
    region[0], region[1], region[2], region[3], region[5] = left, low, right, high, np.sqrt(growth)


@_compiled
def splat_map(
    fine: Array,
    heights: Array,
    flags: Array,
    step: float,
    first: float,
    whole: bool,
    turn: Array,
    shift: Array,
    zoom: float,
    ramp: float,
    pupil: Array,
    kernel: Array,
    moments: Array,
) -> None:
    """Add rays to a kernel whose hits are interpolated from those of a grid over the pupil, or over half of it.

    Args:
        fine: [F (ny - 1) + 1, F (nx - 1) + 1, 2] float32, hits of the field point, interpolated linearly. In steps, x of
            column 0 of the coarser grid is -(nx - 1) / 2.
        heights: [A, ny, nx] float32, the squared height of the rays at each aperture, 1 at its edge; bicubic.
        flags: [ny, nx] uint32 of the cell to the right and below a node, see `BLOCKED`.
        step: of the coarser grid, in pupil radii.
        first: y of its row 0, in steps.
        whole: the grid is of the whole pupil; else of its half with y >= 0, whose mirror image is the other.
        turn: [2, 2] rotation by the field point's azimuth.
        shift: x and y added to the hits, in pixels, after the turn.
        zoom: pixels of the kernel in a sensor pixel.
        ramp: width of a pixel's edges, over which light passes to its neighbour, in sides of a pixel of the kernel.
        pupil: [S, 2] float32 points of the unit disc.
        kernel, moments: [G, G] float32 and [MOMENTS] float64, added to.
    """
    nx = flags.shape[1]
    factor = np.int32(fine.shape[1] // (nx - 1))
    coarser = np.float32(1.0 / factor)
    scale, left, top = np.float32(factor / step), np.float32(factor * 0.5 * (nx - 1)), np.float32(-factor * first)
    middle, width, per_pixel = np.float32(0.5 * (len(kernel) - 1)), np.float32(ramp), np.float32(zoom)
    half = middle + HALF
    edge = half - HALF * width - np.float32(BORDER)
    xx, xy, yx, yy = np.float32(turn[0, 0]), np.float32(turn[0, 1]), np.float32(turn[1, 0]), np.float32(turn[1, 1])
    shift_x, shift_y = np.float32(shift[0]), np.float32(shift[1])
    count, sum_x, sum_y, sum_square, inside = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(len(pupil)):
        mirrored = not whole and pupil[i, 1] < 0
        gx, gy = pupil[i, 0] * scale + left, (-pupil[i, 1] if mirrored else pupil[i, 1]) * scale + top
        cx, cy = np.int32(gx), np.int32(gy)
        flag = flags[np.int32((np.float32(cy) + HALF) * coarser), np.int32((np.float32(cx) + HALF) * coarser)]
        if flag == BLOCKED:
            continue
        if flag != 0 and not _passes(heights, flag, gx * coarser, gy * coarser):
            continue
        a, b = gx - np.float32(cx), gy - np.float32(cy)
        here, below = fine[cy], fine[cy + 1]
        w00, w01, w10, w11 = (ONE - a) * (ONE - b), a * (ONE - b), (ONE - a) * b, a * b
        x = w00 * here[cx, 0] + w01 * here[cx + 1, 0] + w10 * below[cx, 0] + w11 * below[cx + 1, 0]
        y = w00 * here[cx, 1] + w01 * here[cx + 1, 1] + w10 * below[cx, 1] + w11 * below[cx + 1, 1]
        if mirrored:
            y = -y
        x, y = xx * x + xy * y + shift_x, yx * x + yy * y + shift_y
        count += 1
        sum_x += x
        sum_y += y
        sum_square += x * x + y * y
        x, y = x * per_pixel, y * per_pixel
        if abs(x) < edge and abs(y) < edge:
            inside += 1
            if width == ONE:
                _share(kernel, x + middle, middle - y)
            else:
                _gather(kernel, x + half, half - y, width)
    moments[0] += count
    moments[1] += sum_x
    moments[2] += sum_y
    moments[3] += sum_square
    moments[4] += inside
