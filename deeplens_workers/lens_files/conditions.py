"""From a design to a lens that can be rendered: the stop's size, every opening, the sensor, and where each came from.

Lengths in mm, wavelengths in um.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from deeplens_workers.glasses import find_glass
from deeplens_workers.lens_files.aiming import axial_cone, chief_height, envelope
from deeplens_workers.lens_files.prescription import BadLens, Prescription, Surface
from deeplens_workers.lens_files.ray_optics import FirstOrder, Lens

# An object at infinity is put so far, at least: beyond 1000 f^2 the focus is within a micrometre of infinity's.
FAR_MM = 1e6
# Openings that the file leaves open are this much larger than the light through them.
MARGIN = 1.05
# Field points to the sensor's corner whose light is looked at for that.
FIELDS = 9
# An automatic image semi-diameter below or above these shares of the fields' image heights is not of the fields.
COVERED, OVERSIZED = 0.9, 1.25
# A stop's own opening is noted from this share on, by which it is narrower than the light cone's definition.
NARROWER = 1e-3
LONGEST_FOCAL_MM = 1e6
# Where a value came from that no file gave.
ASKED = "as given"


@dataclass(frozen=True)
class Conditions:
    """What the file says about how its lens is used.

    Args:
        wavelengths_um: longest first.
        primary_um: of the design; focal length, F-number and sensor are found at it.
        depth_mm: of the object, negative.
        sensor_mm: width and height.
        focal_length_mm: paraxial; None for a lens with surfaces that are not followed here.
        f_number: focal length over the diameter of the axial light cone in the entrance pupil, by real rays; None as above.
        field_deg: half-diagonal field of view, by pinhole projection as field points have it; None as above.
        sources: where these came from, in words: wavelengths, depth, sensor, aperture.
        sampling: pixel pitch in um and pixels across a kernel that suit the lens, if the file names them.
    """

    wavelengths_um: tuple[float, ...]
    primary_um: float
    depth_mm: float
    sensor_mm: tuple[float, float]
    focal_length_mm: float | None
    f_number: float | None
    field_deg: float | None
    sources: dict[str, str] = field(hash=False)
    sampling: tuple[float, int] | None = None


@dataclass(frozen=True)
class Resolved:
    """A design whose every surface has an opening, the stop's included, and notes on what was decided."""

    surfaces: tuple[Surface, ...]
    conditions: Conditions
    notes: tuple[str, ...] = ()


def far_depth(focal_length_mm: float) -> float:
    """Depth in mm, negative, at which an object is as good as infinitely far."""
    return -max(FAR_MM, 1000 * focal_length_mm**2)


def resolve(design: Prescription, sensor_mm: tuple[float, float] | None) -> Resolved:
    """What the file leaves to be computed.

    Args:
        sensor_mm: width and height that override the file's.

    Raises:
        BadLens: it cannot be computed, and why.
    """
    written = design
    design = _with_flat_stop(written)
    _check_glasses(design.surfaces, (*design.wavelengths_um, design.primary_um))
    lens = Lens(design.surfaces, design.primary_um)
    first = lens.first_order(design.object_mm)
    focal = first.focal_length
    if not abs(focal) < LONGEST_FOCAL_MM:
        raise BadLens("the lens has no focal length (afocal): it forms no image of a distant object")
    _check_focus(design, first)
    object_mm = -far_depth(focal) if math.isinf(design.object_mm) else design.object_mm
    notes: list[str] = []
    radius = _stop_radius(design, lens, first)
    if design.aperture != "stop":
        _note_narrow_stop(design, lens, first, design.stop + (design is not written), notes)
    lens = lens.clipping({design.stop: radius})
    size, source = sensor_mm or (0.0, 0.0), ASKED
    if sensor_mm is None:
        size, source = _sensor(design, _field_height(design, lens, first, object_mm, radius), notes)
    surfaces = _opened(design, lens, focal, object_mm, radius, math.hypot(*size) / 2)
    finite = "the file's object distance"
    conditions = Conditions(
        tuple(sorted(set(design.wavelengths_um), reverse=True)),
        design.primary_um,
        -object_mm,
        size,
        focal,
        f_number(lens, first, object_mm, radius),
        math.degrees(math.atan(math.hypot(*size) / 2 / abs(focal))),
        {
            "wavelengths": "the file's wavelengths",
            "depth": f"an object at infinity, put at {object_mm:.4g} mm" if math.isinf(design.object_mm) else finite,
            "sensor": source,
            "aperture": f"{design.aperture} {design.aperture_value:g}",
        },
    )
    return Resolved(surfaces, conditions, tuple(notes))


def f_number(lens: Lens, first: FirstOrder, object_mm: float, radius: float) -> float | None:
    """Focal length over the diameter of the axial light cone in the entrance pupil; None where that is far away."""
    if not abs(first.pupil_z) < 1000 * object_mm:
        return None
    height = axial_cone(lens, object_mm, radius)
    diameter = 2 * height * (object_mm + first.pupil_z) / object_mm
    return abs(first.focal_length / diameter) if diameter and math.isfinite(diameter) else None


def _with_flat_stop(design: Prescription) -> Prescription:
    """The design with a stop in the vertex plane of a curved stop surface: where a pupil's diameter or an F-number has it.

    A stop that is given by its own opening is the surface's rim.
    """
    stop = design.surfaces[design.stop]
    if design.aperture == "stop" or not (stop.curvature or stop.a2 or any(stop.terms)):
        return design
    before = design.surfaces[design.stop - 1].glass if design.stop else "air"
    flat = Surface(curvature=0.0, thickness=0.0, glass=before, is_stop=True, line=stop.line)
    lens = (*design.surfaces[: design.stop], flat, replace(stop, is_stop=False), *design.surfaces[design.stop + 1 :])
    return replace(design, surfaces=lens)


def _check_glasses(surfaces: Sequence[Surface], wavelengths_um: Sequence[float]) -> None:
    for surface in surfaces:
        glass = find_glass(surface.glass)
        for wave in wavelengths_um:
            if glass.covers(wave) and glass.index(wave) >= 1:
                continue
            known = " from {:g} to {:g} um".format(*glass.valid_um) if glass.valid_um else " in the visible"
            raise BadLens(f"line {surface.line}: glass {surface.glass} is known{known}, but the lens has {wave:g} um")


def _check_focus(design: Prescription, first: FirstOrder) -> None:
    """A solve for the paraxial image would move the sensor when the file is loaded: it must be there already."""
    if design.focus_solve is None:
        return
    line, written = design.focus_solve
    if not abs(written - first.image_mm) <= 1e-4 * abs(first.focal_length):
        raise BadLens(
            f"line {line}: PIM puts the image {first.image_mm:.6g} mm behind the last surface, but {written:.6g} mm is "
            "written: write the one that is meant, without PIM"
        )


def _stop_radius(design: Prescription, lens: Lens, first: FirstOrder) -> float:
    """The stop's semi-diameter: where the definition's marginal ray meets it, or its own opening if that is smaller."""
    own = lens.surfaces[design.stop].semi_diameter
    if design.aperture == "stop":
        return min(design.aperture_value, own or math.inf)
    start, direction = _marginal_ray(design, lens, first)
    met, _ = lens.trace(start, direction, clip=False, last=design.stop)
    radius = float(abs(met[-1, 0, 1]))
    if not radius > 0:
        raise BadLens(
            f"the ray at the edge of the light cone ({design.aperture} {design.aperture_value:g}) misses a surface"
        )
    return min(radius, own or math.inf)


def _note_narrow_stop(design: Prescription, lens: Lens, first: FirstOrder, stop: int, notes: list[str]) -> None:
    """Note an opening of the file's stop surface that is narrower than the light cone's definition."""
    own = design.surfaces[stop].semi_diameter
    met, _ = lens.trace(*_marginal_ray(design, lens, first), clip=False, last=stop)
    height = abs(float(met[-1, 0, 1]))
    if own is not None and own < height * (1 - NARROWER):
        notes.append(
            f"the stop's own opening, {own:.4g} mm, narrows the light cone: {design.aperture} "
            f"{design.aperture_value:g} would make it {height:.4g} mm"
        )


def _marginal_ray(design: Prescription, lens: Lens, first: FirstOrder) -> tuple[np.ndarray, np.ndarray]:
    """The real axial ray that the aperture's definition launches, from the plane z = 0."""
    value, distance = design.aperture_value, design.object_mm
    infinite = math.isinf(distance)
    if design.aperture == "object NA" and infinite:
        raise BadLens("an object NA needs an object at a finite distance")
    if design.aperture == "object NA" or (design.aperture == "numerical F-number" and not infinite):
        sine = value if design.aperture == "object NA" else 1 / (2 * value * abs(_image_slope(design, lens)))
        if sine >= 1:
            raise BadLens(f"an object NA is below 1, but got {sine:g}")
        slope = math.tan(math.asin(sine))
        height = distance * slope
    else:
        half = _pupil_radius(design, lens, first)
        slope = 0.0 if infinite else half / (distance + first.pupil_z)
        height = half if infinite else distance * slope
    if not math.isfinite(height):
        raise BadLens(f"the entrance pupil is infinitely far away: {design.aperture} does not define the light cone")
    direction = np.array([[0.0, slope, 1.0]]) / math.hypot(slope, 1.0)
    return np.array([[0.0, height]]), direction


def _pupil_radius(design: Prescription, lens: Lens, first: FirstOrder) -> float:
    value, distance = design.aperture_value, design.object_mm
    if design.aperture == "entrance pupil":
        return value / 2
    if design.aperture == "image F-number" or math.isinf(distance):
        return abs(first.focal_length) / value / 2
    return abs(distance + first.pupil_z) / (2 * value * abs(_image_slope(design, lens)))


def _image_slope(design: Prescription, lens: Lens) -> float:
    """Slope in the image of a paraxial ray that has slope 1 at the object: 1 over the magnification."""
    _, slope = lens.paraxial(design.object_mm, 1.0)
    if not slope:
        raise BadLens(f"the image is infinitely far away: a {design.aperture} does not define the light cone")
    return slope


def _sensor(design: Prescription, height: float, notes: list[str]) -> tuple[tuple[float, float], str]:
    """Width and height of a square sensor, and where its size came from.

    Args:
        height: of the fields' images.
    """
    given, where = design.image_semi_diameter, f"{design.image_words}"
    if given is not None and design.image_user_set:
        return _square(given), where
    behind = design.fields.kind == "angle" and design.fields.largest >= 90
    if given is not None and given > OVERSIZED * height > 0:
        notes.append(
            f"{where}, {given:.4g} mm, was not set by a person and is larger than the image of the fields, {height:.4g} mm, "
            "which is the sensor's half-diagonal"
        )
    elif given is not None and design.fields.largest > 0 and not behind and not given < COVERED * height:
        return _square(given), where
    if height > 0:
        return _square(height), "the image height of the file's fields"
    why = "its fields lie on the axis" if design.fields.largest == 0 else "its fields do not say"
    raise BadLens(
        f"how large is the sensor? {why}: give its sides in mm, as `--sensor WIDTHxHEIGHT` (psf-search lens, render) or "
        "`--set data.sensor_mm=[W,H]` (psf-search run)"
    )


def _square(half_diagonal: float) -> tuple[float, float]:
    return math.sqrt(2) * half_diagonal, math.sqrt(2) * half_diagonal


def _field_height(design: Prescription, lens: Lens, first: FirstOrder, object_mm: float, radius: float) -> float:
    """Image height of the outermost field by its chief ray; NaN if it is unknown, 0 on the axis."""
    kind, value = design.fields.kind, design.fields.largest
    if kind == "real image height" or not value:
        return value
    if kind == "angle":
        height = math.nan if value >= 90 else math.tan(math.radians(value)) * (object_mm + first.pupil_z)
    elif kind == "object height":
        height = math.nan if math.isinf(design.object_mm) else value
    elif kind == "paraxial image height":
        _, slope = lens.paraxial(object_mm, 1.0)
        height = value * abs(slope) * float(lens.indices[-1])
    else:
        return math.nan
    return chief_height(lens, object_mm, height, radius) if math.isfinite(height) else math.nan


def _opened(
    design: Prescription, lens: Lens, focal: float, object_mm: float, radius: float, half_diagonal: float
) -> tuple[Surface, ...]:
    """All surfaces with openings: those that the file leaves open clip none of the light to the sensor."""
    heights = np.linspace(0, half_diagonal * object_mm / abs(focal), FIELDS)
    waves = {design.primary_um, min(design.wavelengths_um), max(design.wavelengths_um)} - {design.primary_um}
    openings = dict(enumerate(surface.semi_diameter for surface in lens.surfaces))
    lenses = [lens, *(_clipped(Lens(design.surfaces, wave), openings) for wave in sorted(waves))]
    needed = envelope(lenses, object_mm, heights, radius)
    if np.isnan(needed).any():
        raise BadLens("no light reaches the sensor: check the openings, the thicknesses and the stop")
    opened = []
    for surface, height in zip(lens.surfaces, needed, strict=True):
        own = surface.semi_diameter
        if own is None:
            own = min(max(MARGIN * float(height), 1e-3 * radius), 0.9999 * surface.largest_radius)
        opened.append(replace(surface, semi_diameter=own))
    return tuple(opened)


def _clipped(lens: Lens, openings: dict[int, float | None]) -> Lens:
    return lens.clipping({i: opening for i, opening in openings.items() if opening is not None})
