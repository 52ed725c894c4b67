"""A lens as its file's commands build it up, in the file's units; `finish` checks it and turns it into a design in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from deeplens_workers.lens_data import LONGEST_UM, SHORTEST_UM
from deeplens_workers.lens_files.prescription import ApertureKind, BadLens, FieldKind, Fields, Prescription, Surface

# Distances of at least this many units are infinite, in both programs' files.
INFINITE = 1e10
MOST_SURFACES = 200
NOT_CIRCULAR = "DeepLens has only full circular openings"
# What a lens file may hold, in mm: beyond it arithmetic ends, not optics.
LONGEST, STEEPEST = 1e7, 1e4


@dataclass(eq=False)
class DraftSurface:
    """A surface in the file's units. `powers` are its even terms: exponent of r -> coefficient."""

    line: int
    curvature: float = 0.0
    thickness: float = 0.0
    glass: str = "air"
    conic: float = 0.0
    powers: dict[int, float] = field(default_factory=dict)
    opening: float | None = None
    is_stop: bool = False

    @property
    def flat(self) -> bool:
        """Whether it is a plane."""
        return not self.curvature and not any(self.powers.values())

    def finished(self, unit_mm: float) -> Surface:
        """The surface in mm."""
        highest = max((power for power, value in self.powers.items() if value), default=2)
        terms = tuple(self.powers.get(power, 0.0) / unit_mm ** (power - 1) for power in range(4, highest + 1, 2))
        found = Surface(
            curvature=self.curvature / unit_mm,
            thickness=self.thickness * unit_mm,
            glass=self.glass,
            conic=self.conic,
            a2=self.powers.get(2, 0.0) / unit_mm,
            terms=terms,
            semi_diameter=None if self.opening is None else self.opening * unit_mm,
            is_stop=self.is_stop,
            line=self.line,
        )
        for name, value, limit in (
            ("thickness", found.thickness, LONGEST),
            ("curvature", found.vertex_curvature, STEEPEST),
            ("conic", found.conic, 1e6),
            ("opening", found.semi_diameter or 0.0, LONGEST),
        ):
            if not abs(value) <= limit:
                raise BadLens(f"line {self.line}: a {name} of {value:.4g} (in mm) is no lens'")
        if not all(math.isfinite(term) for term in terms):
            raise BadLens(f"line {self.line}: an aspheric term is too large")
        return found


@dataclass
class Draft:
    """All that the commands of a file set. The first surface is the object, the last the image."""

    title: str = ""
    unit_mm: float | None = None
    surfaces: list[DraftSurface] = field(default_factory=list)
    aperture: tuple[ApertureKind, float] | None = None
    field_kind: FieldKind | None = None
    field_x: list[float] = field(default_factory=list)
    field_y: list[float] = field(default_factory=list)
    waves_um: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    primary: int | None = None
    """Counted from 1."""
    image_opening: float | None = None
    image_user_set: bool = False
    notes: list[str] = field(default_factory=list)
    configuration: int = 1
    configurations: int = 1
    focus_solve: tuple[int, float] | None = None
    """Line, and the distance written there, in the file's units."""

    def finish(self, units: str, image_words: str) -> Prescription:
        """The design.

        Args:
            units: the keyword that sets them, for messages.

        Raises:
            BadLens: something is missing or contradicts.
        """
        if self.unit_mm is None:
            raise BadLens(f"no `{units}` line: are its lengths in mm, cm or inches?")
        unit = self.unit_mm
        before, *inner, image = self.surfaces
        self._check_ends(before, inner[-1], image)
        surfaces = tuple(one.finished(unit) for one in inner)
        stops = [one for one in surfaces if one.is_stop]
        if len(stops) != 1:
            lines = "".join(f", in line {one.line}" for one in stops)
            raise BadLens(f"a lens has one aperture stop, but this has {len(stops)}{lines}")
        if self.aperture is None:
            raise BadLens("nothing says how much light the lens takes (entrance pupil, F-number or NA)")
        waves, weights, primary = self._waves()
        distance = before.thickness
        kind, value = self.aperture
        return Prescription(
            title=self.title,
            surfaces=surfaces,
            object_mm=math.inf if distance >= INFINITE else self._finite(distance * unit, before.line),
            aperture=kind,
            aperture_value=value * unit if kind in ("entrance pupil", "stop") else value,
            wavelengths_um=waves,
            weights=weights,
            primary_um=primary,
            fields=self._fields(unit),
            image_semi_diameter=self.image_opening * unit if self.image_opening else None,
            image_user_set=self.image_user_set,
            image_words=image_words,
            notes=tuple(self.notes),
            configuration=self.configuration,
            configurations=self.configurations,
            focus_solve=None if self.focus_solve is None else (self.focus_solve[0], self.focus_solve[1] * unit),
        )

    def _check_ends(self, before: DraftSurface, last: DraftSurface, image: DraftSurface) -> None:
        if before.glass != "air":
            raise BadLens(f"line {before.line}: object in {before.glass}: DeepLens' objects are in air")
        if last.glass != "air":
            raise BadLens(f"line {last.line}: the sensor is in {last.glass}: DeepLens' sensors are in air")
        if before.is_stop or image.is_stop:
            raise BadLens(f"line {(before if before.is_stop else image).line}: the stop is neither object nor image")
        if not before.flat and before.thickness < INFINITE:
            raise BadLens(f"line {before.line}: a curved object surface: DeepLens' objects are flat")
        if not image.flat:
            raise BadLens(f"line {image.line}: a curved image surface: DeepLens' sensor is flat")

    @staticmethod
    def _finite(distance: float, line: int) -> float:
        if not 0 < distance <= LONGEST:
            raise BadLens(
                f"line {line}: the object lies {distance:.4g} mm before the first surface: more than 0 is valid"
            )
        return distance

    def _waves(self) -> tuple[tuple[float, ...], tuple[float, ...], float]:
        """Wavelengths that have a weight, their weights, and the primary one, which may have none."""
        waves, weights = self.waves_um, self.weights or [1.0] * len(self.waves_um)
        if not waves:
            raise BadLens("the file has no wavelength")
        for wave in waves:
            if not SHORTEST_UM < wave < LONGEST_UM:
                raise BadLens(f"a wavelength of {wave:g} um: valid is from {SHORTEST_UM} to {LONGEST_UM} um")
        if len(weights) != len(waves):
            raise BadLens(f"{len(waves)} wavelengths, but {len(weights)} weights of them")
        if min(weights) < 0:
            raise BadLens(f"a wavelength's weight is at least 0, but got {min(weights):g}")
        if self.primary is None and len(waves) > 1:
            raise BadLens(f"none of the {len(waves)} wavelengths is said to be the primary one")
        number = self.primary or 1
        if not 1 <= number <= len(waves):
            raise BadLens(f"the primary wavelength is number {number}, but there are {len(waves)}")
        kept = dict[float, float]()
        for wave, weight in zip(waves, weights, strict=True):
            if weight or not any(weights):
                kept[wave] = kept.get(wave, 0.0) + weight
        if len(set(kept.values())) > 1:
            listed = ", ".join(f"{wave:g} um: {weight:g}" for wave, weight in kept.items())
            self.notes.append(
                f"the file weights its wavelengths ({listed}); weights are set by `data`, not by the lens"
            )
        return tuple(kept), tuple(kept.values()), waves[number - 1]

    def _fields(self, unit: float) -> Fields:
        kind = self.field_kind or "unknown"
        count = max(len(self.field_x), len(self.field_y))
        x, y = (values + [0.0] * (count - len(values)) for values in (self.field_x, self.field_y))
        scale = 1.0 if kind == "angle" else unit
        return Fields(kind, tuple((scale * a, scale * b) for a, b in zip(x, y, strict=True)))


def check_configuration(wanted: int | None, count: int) -> None:
    """Raises BadLens unless the wanted one is among them."""
    if wanted is not None and not 1 <= wanted <= count:
        raise BadLens(f"configuration {wanted}: the file has {count}, counted from 1")


def first_of(count: int) -> str:
    """The note that the first is taken."""
    return f"the first of {count} configurations is taken"
