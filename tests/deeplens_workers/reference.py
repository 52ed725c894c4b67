"""A ray tracer for tests that knows nothing of lens files: numbers in, RMS spot radius out. Lengths in mm."""

from __future__ import annotations

import numpy as np

from tests.deeplens_workers.lens_writers import S


def bk7(um: float) -> float:
    """Schott's dispersion formula of N-BK7."""
    terms = ((1.03961212, 0.00600069867), (0.231792344, 0.0200179144), (1.01046945, 103.560653))
    return float(np.sqrt(1 + sum(b * um**2 / (um**2 - c) for b, c in terms)))


def shape(one: S, height2):
    """Sag at squared heights."""
    c = 1 / one.radius if one.radius else 0.0
    total = c * height2 / (1 + np.sqrt(1 - (1 + one.conic) * c * c * height2))
    for power, term in enumerate(one.terms, 2):
        total = total + term * height2**power
    return total


def rms_um(
    surfaces: tuple[S, ...],
    indices: list[float],
    stop_radius: float,
    angle: float,
    object_mm: float = 1e9,
    side: int = 241,
    openings: bool = True,
) -> float:
    """RMS spot radius about the centroid in um of light that fills a flat stop.

    Args:
        indices: behind each surface.
        angle: tangent of the object's direction from the first vertex.
    """
    reach = 1.3 * max(one.opening or stop_radius * 1.5 for one in surfaces)
    grid = np.linspace(-reach, reach, side)
    x, y = (values.ravel() for values in np.meshgrid(grid, grid))
    z = np.zeros_like(x)
    d = np.stack([x, y - angle * object_mm, np.full_like(x, object_mm)])
    d /= np.linalg.norm(d, axis=0)
    before, alive = 1.0, np.ones(x.shape, bool)
    with np.errstate(all="ignore"):
        for one, behind in zip(surfaces, indices, strict=True):
            t = -z / d[2]
            stopped = np.hypot(x + t * d[0], y + t * d[1]) > stop_radius  # in the vertex plane
            for _ in range(60):  # the sag is shallow: stepping along the ray by the gap converges
                t = (shape(one, (x + t * d[0]) ** 2 + (y + t * d[1]) ** 2) - z) / d[2]
            x, y, z = x + t * d[0], y + t * d[1], z + t * d[2]
            height = np.hypot(x, y)
            if one.stop:
                alive &= ~stopped
            if openings and one.opening is not None:
                alive &= height <= one.opening
            step = 1e-6
            slope = (shape(one, (height + step) ** 2) - shape(one, (height - step) ** 2)) / (2 * step)
            along = np.where(height > 0, height, 1.0)
            normal = np.stack([-slope * x / along, -slope * y / along, np.ones_like(x)])
            normal /= np.linalg.norm(normal, axis=0)
            cosine = (normal * d).sum(0)
            ratio = before / behind
            d = ratio * d + (np.sqrt(1 - ratio**2 * (1 - cosine**2)) - ratio * cosine) * normal
            before, z = behind, z - one.thickness
    x, y = (values[alive & np.isfinite(x)] for values in (x - z / d[2] * d[0], y - z / d[2] * d[1]))
    return float(1e3 * np.sqrt(x.var() + y.var()))
