"""What a lens file says, whatever its format: lengths in mm, wavelengths in um, angles in degrees.

Surfaces are centred and rotationally symmetric; anything else is refused by the readers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

# How the light that the stop lets through is defined.
ApertureKind = Literal[
    "entrance pupil",  # its diameter
    "image F-number",  # focal length over the entrance pupil's diameter
    "working F-number",  # of the paraxial marginal ray: 1 / (2 slope) in image space
    "numerical F-number",  # of the sine condition: 1 / (2 sine) in image space, by the sine in object space
    "object NA",  # sine of the real marginal ray's angle in object space
    "stop",  # the stop's own semi-diameter
]
FieldKind = Literal["angle", "object height", "paraxial image height", "real image height", "unknown"]


class BadLens(Exception):
    """What is wrong with a lens file, in one printable line, without the file's name."""

    def __init__(self, message: str) -> None:
        super().__init__("".join(letter if letter.isprintable() else "?" for letter in message))


@dataclass(frozen=True)
class Surface:
    """One surface and the space behind it.

    sag(r) = c r^2 / (1 + sqrt(1 - (1 + k) c^2 r^2)) + a2 r^2 + a4 r^4 + a6 r^6 + ...

    Args:
        curvature: c, 1/mm.
        thickness: to the next vertex, or to the sensor, in mm.
        glass: behind it, as DeepLens names it.
        conic: k.
        a2: 1/mm.
        terms: a4, a6, ... in mm^-3, mm^-5, ...
        semi_diameter: of the opening that clips light, in mm; None: it clips nothing.
        is_stop: the aperture stop.
        line: of the file, where the surface begins; 0: unknown.
    """

    curvature: float
    thickness: float
    glass: str = "air"
    conic: float = 0.0
    a2: float = 0.0
    terms: tuple[float, ...] = ()
    semi_diameter: float | None = None
    is_stop: bool = False
    line: int = 0

    @property
    def vertex_curvature(self) -> float:
        """What paraxial rays see, 1/mm."""
        return self.curvature + 2 * self.a2

    @property
    def largest_radius(self) -> float:
        """Where the conic's sag ends, in mm."""
        squeeze = (1 + self.conic) * self.curvature**2
        return 1 / math.sqrt(squeeze) if squeeze > 0 else math.inf


@dataclass(frozen=True)
class Fields:
    """Field points of a design: `values` are (x, y) in degrees or mm."""

    kind: FieldKind
    values: tuple[tuple[float, float], ...]

    @property
    def largest(self) -> float:
        """The field farthest from the axis: its angle in degrees, or its height in mm."""
        if self.kind == "angle":
            widest = max((abs(angle) for value in self.values for angle in value), default=0.0)
            if widest >= 90:  # which has no tangent
                return widest
            slopes = [math.hypot(*(math.tan(math.radians(angle)) for angle in value)) for value in self.values]
            return math.degrees(math.atan(max(slopes, default=0.0)))
        return max((math.hypot(*value) for value in self.values), default=0.0)


@dataclass(frozen=True)
class Prescription:
    """A lens design. `surfaces` are without object and image; `object_mm` is the object's distance from the first, inf allowed.

    `image_semi_diameter` is None where the file has none; `image_user_set` says whether a person chose it.
    `focus_solve` is the line of a solve that puts the image where it is sharp paraxially, and the distance written there.
    """

    title: str
    surfaces: tuple[Surface, ...]
    object_mm: float
    aperture: ApertureKind
    aperture_value: float
    wavelengths_um: tuple[float, ...]
    weights: tuple[float, ...]
    primary_um: float
    fields: Fields
    image_semi_diameter: float | None
    image_user_set: bool
    image_words: str = "the image surface"
    notes: tuple[str, ...] = ()
    configuration: int = 1
    configurations: int = 1
    focus_solve: tuple[int, float] | None = None

    @property
    def stop(self) -> int:
        """Index of the stop."""
        return next(i for i, surface in enumerate(self.surfaces) if surface.is_stop)
