"""How far the parts of a lens that is made lie from its design: the `tolerances` section of a space."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat

from deeplens_workers.lens_files.deeplens_json import curvature, medium
from spaces.frozen import Frozen
from spaces.seeding import named_seed

Grade = Literal["commercial", "precision", "high"]

# Standard deviations, of half the +- figures of the sources (docs/as-built.md): a part is then within them 19 times in 20.
GRADES: dict[str, dict[str, float]] = {
    "commercial": {
        "decentre_um": 50,
        "tilt_arcmin": 5,
        "wedge_arcmin": 0,
        "space_um": 50,
        "thickness_um": 100,
        "radius_percent": 0.25,
        "index": 5e-4,
        "abbe_percent": 0.4,
        "sensor_focus_um": 30,
        "sensor_tilt_arcmin": 5,
    },
    "precision": {
        "decentre_um": 20,
        "tilt_arcmin": 2,
        "wedge_arcmin": 0,
        "space_um": 15,
        "thickness_um": 25,
        "radius_percent": 0.05,
        "index": 2.5e-4,
        "abbe_percent": 0.25,
        "sensor_focus_um": 12,
        "sensor_tilt_arcmin": 2.5,
    },
    "high": {
        "decentre_um": 5,
        "tilt_arcmin": 0.5,
        "wedge_arcmin": 0,
        "space_um": 5,
        "thickness_um": 5,
        "radius_percent": 0.005,
        "index": 1e-4,
        "abbe_percent": 0.1,
        "sensor_focus_um": 5,
        "sensor_tilt_arcmin": 1,
    },
}
ELEMENT, SURFACE, SENSOR = "element", "surface", "sensor"
REACH = {"normal": 3.0, "uniform": 3**0.5, "bounded": 2.0}
"""Standard deviations that parts come to: a normal one to 3 in 997 of 1,000."""
STEEP = 1800.0
"""Arc minutes, 30 degrees: no part that is tilted so has been assembled."""
MOST = {"tilt": STEEP, "wedge": STEEP, "radius_percent": 100.0, "abbe_percent": 100.0, "index": 0.3}
"""What no part comes to, whatever the lens: with that much less a surface or a glass is none. All glasses' indices are above 1.3."""


class ElementTolerances(Frozen):
    """Of one element, in place of the grade's; an element is one lens, or several that are cemented."""

    decentre_um: NonNegativeFloat | None = None
    tilt_arcmin: NonNegativeFloat | None = None
    wedge_arcmin: NonNegativeFloat | None = None


class SurfaceTolerances(Frozen):
    """Of one surface, and of the space or glass behind it, in place of the grade's."""

    radius_percent: NonNegativeFloat | None = None
    space_um: NonNegativeFloat | None = None
    thickness_um: NonNegativeFloat | None = None
    index: NonNegativeFloat | None = None
    abbe_percent: NonNegativeFloat | None = None


class Tolerances(Frozen):
    """Standard deviations of what is made from what is designed; those that are not given are the grade's.

    An element's surfaces are tilted against its axis (wedge); then it moves as a rigid body: it turns about the vertex of its first
    surface, then moves sideways. Each of x and y has the standard deviation that is given.
    """

    grade: Grade = Field(
        "precision", description="commercial, precision or high: what is not given here (docs/as-built.md)"
    )
    distribution: Literal["normal", "uniform", "bounded"] = Field(
        "normal",
        description="of every deviation, with its standard deviation; bounded: normal, drawn again beyond two of them",
    )
    decentre_um: NonNegativeFloat | None = Field(None, description="of an element, along x and along y")
    tilt_arcmin: NonNegativeFloat | None = Field(None, description="of an element, about x and about y")
    wedge_arcmin: NonNegativeFloat | None = Field(
        None, description="of an element's surfaces but the first, about their own vertices, about x and about y"
    )
    space_um: NonNegativeFloat | None = Field(None, description="of an air space, but the last: the sensor is focused")
    thickness_um: NonNegativeFloat | None = Field(None, description="of a glass, along the axis")
    radius_percent: NonNegativeFloat | None = Field(None, description="of a surface's radius of curvature")
    index: NonNegativeFloat | None = Field(None, description="of a glass' refractive index at the d line")
    abbe_percent: NonNegativeFloat | None = Field(None, description="of a glass' Abbe number")
    sensor_focus_um: NonNegativeFloat | None = Field(
        None, description="of the sensor's place, after the compensator: its residual"
    )
    sensor_tilt_arcmin: NonNegativeFloat | None = Field(None, description="of the sensor, about x and about y")
    compensator: Literal["axis", "field", "none"] = Field(
        "axis",
        description="the sensor is moved to where the spots are smallest: on the axis, in the mean over the field, or not",
    )
    elements: dict[int, ElementTolerances] = Field({}, description="by element, counted from 1")
    surfaces: dict[int, SurfaceTolerances] = Field({}, description="by surface, counted from 1, the stop too")

    def figure(self, name: str) -> float:
        """A standard deviation, given or of the grade."""
        given = getattr(self, name)
        return float(GRADES[self.grade][name] if given is None else given)

    def resolved(self) -> dict[str, Any]:
        """The section as plain values, with the figures of its grade in place."""
        return self.model_dump(mode="json") | {name: self.figure(name) for name in GRADES[self.grade]}


class Deviation(NamedTuple):
    """One number in which a unit differs from the design: of which part, counted from 1, and its standard deviation."""

    name: str
    part: str
    number: int
    sigma: float

    def __str__(self) -> str:
        where = self.part if self.part == SENSOR else f"{self.part} {self.number}"
        return f"{where} {self.name}"


def elements(surfaces: list[dict[str, Any]]) -> list[range]:
    """Surfaces of each element, by index: a run of surfaces with glass between them."""
    found, first = [], None
    for i, surface in enumerate(surfaces):
        glass = medium(surface) != "air"
        if first is None and glass:
            first = i
        elif first is not None and not glass:
            found.append(range(first, i + 1))
            first = None
    if first is not None:
        raise ValueError("there is glass before the sensor, so its last element has no end")
    return found


def deviations(tolerances: Tolerances, surfaces: list[dict[str, Any]]) -> tuple[Deviation, ...]:
    """All that may differ between units of a lens, in a fixed order.

    Args:
        surfaces: of its DeepLens JSON.

    Raises:
        ValueError: an override is of what the lens does not have, or a part would be off by more than its own size.
    """
    parts = elements(surfaces)
    for name, given, count in (
        (ELEMENT, tolerances.elements, len(parts)),
        (SURFACE, tolerances.surfaces, len(surfaces)),
    ):
        if unknown := [number for number in given if not 1 <= number <= count]:
            raise ValueError(f"tolerances.{name}s: the lens has {name}s 1 to {count}, but got {unknown[0]}")
    having = [_of_surface(surface, last=surface is surfaces[-1]) for surface in surfaces]
    for number, override in tolerances.surfaces.items():
        own = having[number - 1]
        if unknown_keys := override.model_dump(exclude_none=True).keys() - own:
            raise ValueError(
                f"tolerances.surfaces.{number}: that surface has {', '.join(own) or 'no tolerances'}, "
                f"but got {min(unknown_keys)}"
            )
    found: list[Deviation] = []

    def add(key: str, part: str, number: int, *names: str, of: tuple[str, int] | None = None) -> None:
        given: dict[str, dict[int, Any]] = {ELEMENT: dict(tolerances.elements), SURFACE: dict(tolerances.surfaces)}
        override = given.get(part, {}).get(number)
        own = getattr(override, key, None)
        sigma = tolerances.figure(key) if own is None else own
        found.extend(Deviation(name, *(of or (part, number)), float(sigma)) for name in names if sigma)

    for number, behind_first in enumerate((part[1:] for part in parts), start=1):
        add("decentre_um", ELEMENT, number, "decentre_x_um", "decentre_y_um")
        add("tilt_arcmin", ELEMENT, number, "tilt_x_arcmin", "tilt_y_arcmin")
        for i in behind_first:
            add("wedge_arcmin", ELEMENT, number, "wedge_x_arcmin", "wedge_y_arcmin", of=(SURFACE, i + 1))
    for number, keys in enumerate(having, start=1):
        for key in keys:
            add(key, SURFACE, number, key)
    add("sensor_focus_um", SENSOR, 0, "focus_um")
    add("sensor_tilt_arcmin", SENSOR, 0, "tilt_x_arcmin", "tilt_y_arcmin")
    for one in found:
        reach, most = one.sigma * REACH[tolerances.distribution], _most(one, surfaces, parts)
        if reach >= most:
            raise ValueError(
                f"tolerances: {one} of standard deviation {one.sigma:g} comes to {reach:.4g} ({tolerances.distribution}), but that part "
                f"must be off by less than {most:.4g}"
            )
    return tuple(found)


def _most(one: Deviation, surfaces: list[dict[str, Any]], parts: list[range]) -> float:
    """What a deviation must not come to: for a decentre the radius of the element's smallest opening, for lengths the glass' or the lens'."""
    if (most := next((most for name, most in MOST.items() if one.name.startswith(name)), None)) is not None:
        return most
    if one.name.startswith("decentre"):
        part = [surfaces[i] for i in parts[one.number - 1]]
        return 1e3 * min(float(surface.get("r") or surface["l"]) for surface in part)  # a plane may have either
    if one.name == "thickness_um":
        return 1e3 * float(surfaces[one.number - 1]["d_next"])
    return 1e3 * float(sum(surface["d_next"] for surface in surfaces))


def _of_surface(surface: dict[str, Any], last: bool) -> list[str]:
    """Tolerances that a surface has, with what is behind it; the space before the sensor is the sensor's focus."""
    keys = ["radius_percent"] if curvature(surface) else []
    if medium(surface) != "air":
        return [*keys, "thickness_um", "index", "abbe_percent"]
    return keys if last else [*keys, "space_um"]


def draw(
    tolerances: Tolerances, count: int, seed: int, name: str, deviations: int, first: int = 0
) -> NDArray[np.float64]:
    """Deviations [count, V] of units in standard deviations; unit i is the same however many there are.

    Args:
        seed, name: of the run, and of the set that the units are of.
        deviations: V.
        first: number of the first of them.
    """
    drawn = np.empty((count, deviations))
    for i in range(count):
        rng = np.random.default_rng(named_seed(seed, "unit", name, first + i))
        if tolerances.distribution == "uniform":
            drawn[i] = rng.uniform(-np.sqrt(3), np.sqrt(3), deviations)
        else:
            drawn[i] = rng.standard_normal(deviations)
            # Not rescaled to the standard deviation that was given: two of them are the drawing's +-, which no part exceeds.
            while tolerances.distribution == "bounded" and (beyond := np.abs(drawn[i]) > 2).any():
                drawn[i, beyond] = rng.standard_normal(int(beyond.sum()))
    return drawn


assert set(GRADES) == set(get_args(Grade))
