"""A unit: one lens as it was made, with every part a little off its design.

Lengths in mm, angles in radians, unless named. z is along the light, from the first vertex.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.glasses import find_glass
from deeplens_workers.lens_file import LensFile
from deeplens_workers.lens_files.deeplens_json import medium
from deeplens_workers.lens_files.glass_names import D_LINE
from deeplens_workers.tolerances import ELEMENT, SENSOR, SURFACE, Deviation, Tolerances, deviations, elements

Array = NDArray[np.float64]

# Surfaces that look the same when they are turned about their own axis: a tilted one is then told by its normal alone.
TURNABLE = {"Aperture", "Aspheric", "Plane", "Spheric", "Stop"}


@dataclass(frozen=True)
class GlassChange:
    """Of a glass: what is added to its index at the d line, and what divides its dispersion, its index minus that one."""

    index: float = 0.0
    abbe: float = 1.0


@dataclass(frozen=True, eq=False)
class AsBuilt:
    """Where the parts of a unit are.

    surfaces: as in DeepLens' JSON, the last one's distance to the sensor before it is focused.
    glasses: changes of the glass behind a surface, by index.
    focus_mm: by how much the sensor is behind where it was focused.
    tilt: of the sensor, about x and then y, about its middle.
    """

    surfaces: list[dict[str, Any]]
    glasses: dict[int, GlassChange] = field(default_factory=dict)
    focus_mm: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    compensator: str = "none"


class Manufacture:
    """Makes units of a design.

    Args:
        lens: the design.
        tolerances: of its parts.

    Raises:
        ValueError: the lens has surfaces that cannot be tilted, or not the parts or glasses that the tolerances name.
    """

    def __init__(self, lens: LensFile, tolerances: Tolerances) -> None:
        self.design: list[dict[str, Any]] = json.loads(lens.text)["surfaces"]
        for number, surface in enumerate(self.design, start=1):
            if surface["type"] not in TURNABLE or surface.get("is_square"):
                kinds = ", ".join(sorted(TURNABLE))
                raise ValueError(
                    f"lens {lens.name}: surface {number} is of type {surface['type']}"
                    f"{' and square' if surface.get('is_square') else ''}, but units are made of round ones of types {kinds}"
                )
        self.tolerances = tolerances
        self.deviations: tuple[Deviation, ...] = deviations(tolerances, self.design)
        for one in self.deviations:
            if one.name in ("index", "abbe_percent"):
                name = medium(self.design[one.number - 1])
                if not find_glass(name).covers(D_LINE):
                    raise ValueError(
                        f"tolerances.{one.name}: it is of the d line, {D_LINE:.3f} um, at which glass {name} is not known; "
                        "it must be 0 for this lens"
                    )
        self._elements = elements(self.design)
        self._sigmas = np.array([one.sigma for one in self.deviations])

    def unit(self, values: Sequence[float] | NDArray[np.floating]) -> AsBuilt:
        """The unit of deviations [V] in standard deviations, in the order of `deviations`."""
        off: dict[tuple[str, int], dict[str, float]] = {}
        for one, value in zip(self.deviations, np.asarray(values, float) * self._sigmas, strict=True):
            off.setdefault((one.part, one.number), {})[one.name] = float(value)
        surfaces = [dict(surface) for surface in self.design]
        glasses = {}
        for i, surface in enumerate(surfaces):
            of = off.get((SURFACE, i + 1), {})
            longer = 1 + of.get("radius_percent", 0.0) / 100
            for key, factor in (("roc", longer), ("c", 1 / longer)):  # a lens has either, or both
                if surface.get(key):
                    surface[key] *= factor
            surface["d_next"] += (of.get("thickness_um", 0.0) + of.get("space_um", 0.0)) * 1e-3
            if "index" in of or "abbe_percent" in of:
                glasses[i] = GlassChange(of.get("index", 0.0), 1 + of.get("abbe_percent", 0.0) / 100)
        wedges = [_turn(off.get((SURFACE, number), {}), "wedge") for number in range(1, len(surfaces) + 1)]
        moves = [off.get((ELEMENT, number), {}) for number in range(1, len(self._elements) + 1)]
        of = off.get((SENSOR, 0), {})
        return AsBuilt(
            _moved(surfaces, self._elements, moves, wedges),
            glasses,
            of.get("focus_um", 0.0) * 1e-3,
            (_radians(of.get("tilt_x_arcmin", 0.0)), _radians(of.get("tilt_y_arcmin", 0.0))),
            self.tolerances.compensator,
        )


def rotation(about_x: float, about_y: float) -> Array:
    """Matrix [3, 3] of a right-handed turn about x, then one about y."""
    (cx, sx), (cy, sy) = ((math.cos(angle), math.sin(angle)) for angle in (about_x, about_y))
    first = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    return np.asarray(np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]]) @ first)


def _moved(
    surfaces: list[dict[str, Any]], parts: list[range], moves: list[dict[str, float]], wedges: list[Array]
) -> list[dict[str, Any]]:
    """Surfaces that are turned about their own vertices, and of which those of each element have then moved together."""
    vertices = np.zeros((len(surfaces) + 1, 3))
    vertices[1:, 2] = np.cumsum([surface["d_next"] for surface in surfaces])
    vertices[:-1, :2] = [surface.get("pos_xy", (0.0, 0.0)) for surface in surfaces]
    normals = np.array([surface.get("vec_local", (0.0, 0.0, 1.0)) for surface in surfaces], float)
    sensor = vertices[-1, 2]
    for part, move in zip(parts, moves, strict=True):
        turn = _turn(move, "tilt")
        pivot = vertices[part.start].copy()
        shift = 1e-3 * np.array([move.get("decentre_x_um", 0.0), move.get("decentre_y_um", 0.0), 0.0])
        for i in part:
            vertices[i] = pivot + shift + turn @ (vertices[i] - pivot)
            normals[i] = turn @ wedges[i] @ normals[i]
    behind = np.diff(np.append(vertices[:-1, 2], sensor))
    return [
        {**surface, "d_next": float(d), "pos_xy": vertex[:2].tolist(), "vec_local": normal.tolist()}
        for surface, d, vertex, normal in zip(surfaces, behind, vertices[:-1], normals, strict=True)
    ]


def _turn(off: dict[str, float], name: str) -> Array:
    """Matrix [3, 3] of a part's turn, or of none."""
    return rotation(_radians(off.get(f"{name}_x_arcmin", 0.0)), _radians(off.get(f"{name}_y_arcmin", 0.0)))


def _radians(arcmin: float) -> float:
    return math.radians(arcmin / 60)
