"""First-order optics and real rays of a centred lens in numpy: what reading a lens file needs, without DeepLens.

R = ray, A = surface. Lengths in mm; z = 0 is the first vertex; light goes towards +z.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.glasses import find_glass
from deeplens_workers.lens_files.prescription import Surface

Array = NDArray[np.float64]

NEWTON_STEPS = 12
# A ray that is farther than this from the surface after the last step has missed it, in mm.
MISSED = 1e-7


@dataclass(frozen=True)
class FirstOrder:
    """Paraxial properties at one wavelength; infinite where light stays parallel.

    `pupil_z` and `pupil_magnification` are the entrance pupil's place and its radius over the stop's. `image_mm` is the
    distance from the last vertex at which an object at `object_mm` is sharp.
    """

    focal_length: float
    pupil_z: float
    pupil_magnification: float
    image_mm: float


class Lens:
    """Surfaces with the refractive indices of one wavelength."""

    def __init__(self, surfaces: Sequence[Surface], wavelength_um: float) -> None:
        self.surfaces = tuple(surfaces)
        self.stop = next(i for i, surface in enumerate(self.surfaces) if surface.is_stop)
        glasses = (find_glass(surface.glass) for surface in self.surfaces)
        self.indices = (1.0, *(glass.index(wavelength_um) for glass in glasses))

    def clipping(self, semi_diameters: dict[int, float]) -> Lens:
        """The same lens with other openings at some surfaces, by index."""
        other = object.__new__(Lens)
        other.stop, other.indices = self.stop, self.indices
        other.surfaces = tuple(
            replace(surface, semi_diameter=semi_diameters.get(i, surface.semi_diameter))
            for i, surface in enumerate(self.surfaces)
        )
        return other

    def paraxial(self, height: float, slope: float, last: int | None = None) -> tuple[float, float]:
        """Height at the vertex of surface `last` and slope behind it, of a ray that meets the first vertex plane so."""
        y, omega = height, slope
        end = len(self.surfaces) - 1 if last is None else last
        for i, surface in enumerate(self.surfaces[: end + 1]):
            before, behind = self.indices[i], self.indices[i + 1]
            omega -= y * surface.vertex_curvature * (behind - before)
            if i < end:
                y += omega * surface.thickness / behind
        return y, omega / self.indices[end + 1]

    def first_order(self, object_mm: float) -> FirstOrder:
        """Focal length, entrance pupil and paraxial image of an object at this distance, inf allowed."""
        _, slope = self.paraxial(1.0, 0.0)
        focal = -1 / slope if slope else math.inf
        # At the stop the height is a y0 + b u0 in those at the first vertex plane; rays through z_p have y0 = -z_p u0.
        a, b = (self.paraxial(*ray, last=self.stop)[0] for ray in ((1.0, 0.0), (0.0, 1.0)))
        y, u = self.paraxial(*((1.0, 0.0) if math.isinf(object_mm) else (object_mm, 1.0)))
        pupil = (b / a, 1 / a) if a else (math.inf, math.inf)
        return FirstOrder(focal, *pupil, -y / u if u else math.inf)

    def trace(self, start: Array, direction: Array, clip: bool = True, last: int | None = None) -> tuple[Array, Array]:
        """Real rays from the plane z = 0.

        Args:
            start: [R, 2] where they cross that plane.
            direction: [R, 3] unit vectors.
            clip: openings stop rays.
            last: surface to end at, behind the last the sensor's plane if None.

        Returns:
            Points [A, R, 2] where they meet the surfaces, and on the sensor [R, 2] if traced so far; NaN for lost rays.
        """
        end = len(self.surfaces) - 1 if last is None else last
        x, y, z = start[:, 0].copy(), start[:, 1].copy(), np.zeros(len(start))
        dx, dy, dz = direction.T.copy()
        met = np.full((end + 1, len(start), 2), np.nan)
        with np.errstate(all="ignore"):
            for i, surface in enumerate(self.surfaces[: end + 1]):
                t = _intersection(surface, x, y, z, dx, dy, dz)
                x, y, z = x + t * dx, y + t * dy, z + t * dz
                height2 = x**2 + y**2
                if clip and surface.semi_diameter is not None:
                    x = np.where(height2 <= surface.semi_diameter**2, x, np.nan)
                met[i, :, 0], met[i, :, 1] = x, y
                dx, dy, dz = _refract(surface, x, y, height2, dx, dy, dz, self.indices[i] / self.indices[i + 1])
                z = z - surface.thickness
            t = -z / dz
            sensor = np.stack([x + t * dx, y + t * dy], axis=1)
        sensor[np.isnan(sensor).any(axis=1)] = np.nan
        return met, sensor


def sag(surface: Surface, height2: Array) -> Array:
    """Sag in mm at squared heights; NaN beyond the conic."""
    c, k = surface.curvature, surface.conic
    total = c * height2 / (1 + np.sqrt(1 - (1 + k) * c**2 * height2)) + surface.a2 * height2
    return np.asarray(total + height2**2 * _polynomial(surface.terms, height2))


def slope2(surface: Surface, height2: Array) -> Array:
    """Derivative of the sag to the squared height, 1/mm."""
    c, k = surface.curvature, surface.conic
    total = c / 2 / np.sqrt(1 - (1 + k) * c**2 * height2) + surface.a2
    weighted = tuple((order + 2) * term for order, term in enumerate(surface.terms))
    return np.asarray(total + height2 * _polynomial(weighted, height2))


def _polynomial(terms: Sequence[float], height2: Array) -> Array:
    total: Array = np.zeros_like(height2)
    for term in reversed(terms):
        total = np.asarray(term + height2 * total)
    return total


def _intersection(surface: Surface, x: Array, y: Array, z: Array, dx: Array, dy: Array, dz: Array) -> Array:
    """Path lengths to the surface: the base sphere in closed form, then Newton's method; NaN for rays that miss it."""
    c = surface.curvature
    t: Array = np.asarray(-z / dz)
    if c == 0 and not surface.terms and not surface.a2:
        return t
    x0, y0 = x + t * dx, y + t * dy
    # From the vertex plane: c t^2 - 2 g t + f = 0, and of its roots the one near the vertex.
    f, g = c * (x0**2 + y0**2), dz - c * (x0 * dx + y0 * dy)
    root = g**2 - c * f
    if not surface.conic and not surface.terms and not surface.a2:
        return np.asarray(t + f / (g + np.sign(g) * np.sqrt(root)))
    t = t + np.where(root >= 0, f / (g + np.sign(g) * np.sqrt(np.maximum(root, 0))), 0.0)
    for _ in range(NEWTON_STEPS):
        xt, yt = x + t * dx, y + t * dy
        height2 = xt**2 + yt**2
        gap = sag(surface, height2) - z - t * dz
        step = gap / (2 * slope2(surface, height2) * (xt * dx + yt * dy) - dz)
        t = t - step
        if not (np.abs(step) > MISSED / 100).any():
            break
    return np.where(np.abs(gap) < MISSED, t, np.nan)


def _refract(
    surface: Surface, x: Array, y: Array, height2: Array, dx: Array, dy: Array, dz: Array, ratio: float
) -> tuple[Array, Array, Array]:
    """Directions behind the surface by Snell's law, NaN where light is totally reflected."""
    if ratio == 1:
        return np.where(np.isnan(x), np.nan, dx), dy, dz
    tilt = 2 * slope2(surface, height2)
    nx, ny = -tilt * x, -tilt * y
    scale = 1 / np.sqrt(1 + nx**2 + ny**2)
    nx, ny, nz = nx * scale, ny * scale, scale
    cosine = dx * nx + dy * ny + dz * nz
    inside = 1 - ratio**2 * (1 - cosine**2)
    bend = np.sign(cosine) * np.sqrt(inside) - ratio * cosine
    return ratio * dx + bend * nx, ratio * dy + bend * ny, ratio * dz + bend * nz
