"""What a lens looks like and does, as plain numbers: its table, its section with rays, spots, distortion, illumination.

Lengths in mm, angles in degrees, heights above the optical axis; field points lie on the way from the centre to the corner.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.glasses import find_glass
from deeplens_workers.kernels import Tracing
from deeplens_workers.lens_file import LensFile
from deeplens_workers.lens_files.deeplens_json import curvature, medium
from deeplens_workers.psf_data import PsfData
from deeplens_workers.pupil import find_pupils
from deeplens_workers.raytrace import RayTracer
from deeplens_workers.render import KernelRenderer
from deeplens_workers.sampling import sobol
from deeplens_workers.splat import disc_points
from deeplens_workers.threads import one_thread

Array = NDArray[np.float64]

DRAWN_FIELDS = (0.0, 0.7, 1.0)
FAN = 7  # rays of a drawn field, evenly over its pupil
CURVE = 21  # field points of the curves
NEAR_AXIS = 1e-3  # of the half-diagonal: has the axis' scale
SPOT_RAYS = 1024
PROFILE = 61  # points along a surface
COLUMNS = ("surface", "radius", "thickness", "glass", "rim", "nd", "Vd", "type", "asphere")


@dataclass(frozen=True)
class Section:
    """The lens cut through its axis: polylines [P, 2] of (z, height).

    profiles: the surfaces. edges: the rims of glass. stop, sensor: lines. rays: those of each drawn field.
    """

    profiles: list[Array]
    edges: list[Array]
    stop: list[Array]
    sensor: Array
    rays: list[list[Array]]


@dataclass(frozen=True)
class Spot:
    """Where the rays of a field point land, in um about the chief ray of the primary wavelength: [S, 2] by wavelength."""

    field: float
    hits: dict[float, Array]
    rms_um: float


@dataclass(frozen=True)
class Curves:
    """Along the field: ideal image height in mm; distortion as a share, of the height that the scale at the axis would give;
    relative illumination; RMS radius in um.
    """

    height_mm: Array
    distortion: Array
    illumination: Array
    rms_um: Array


@dataclass(frozen=True)
class LensView:
    """All of it, of one lens at one object distance."""

    name: str
    section: Section
    spots: list[Spot]
    curves: Curves


def table(lens: LensFile) -> list[tuple[str, ...]]:
    """A row for each surface, by `COLUMNS`."""
    return [_row(number, surface) for number, surface in enumerate(json.loads(lens.text)["surfaces"], start=1)]


def _row(number: int, surface: dict[str, Any]) -> tuple[str, ...]:
    bend = curvature(surface)
    material = medium(surface).lower()
    glass = None if material == "air" else find_glass(material)
    higher = [f"k {surface['k']:g}"] if surface.get("k") else []
    first = 2 if surface.get("use_ai2", True) else 4
    higher += [f"a{first + 2 * i} {term:.4g}" for i, term in enumerate(surface.get("ai") or []) if term]
    if surface.get("f"):
        higher.append(f"f {surface['f']:g}")
    return (
        f"{number}{' stop' if surface.get('is_aperture') else ''}",
        f"{1 / bend:.6g}" if bend else "flat",
        f"{surface['d_next']:.6g}",
        material if glass else "",
        f"{surface.get('r') or surface.get('l'):.5g}",
        f"{glass.nd:.5f}" if glass else "",
        f"{glass.vd:.2f}" if glass else "",
        surface["type"],
        ", ".join(higher),
    )


def view(lens: LensFile, data: PsfData) -> LensView:
    """Trace a lens as a data section without gaps uses it.

    Raises:
        ValueError: DeepLens cannot load it, or no light reaches the sensor.
    """
    renderer = KernelRenderer(RayTracer(lens, data.pixel_pitch_um))
    with torch.inference_mode(), one_thread():
        section = _section(renderer.tracer, data.depths_mm[0])
        spots = [_spot(renderer.tracer, field, data) for field in DRAWN_FIELDS]
    return LensView(lens.name, section, spots, _curves(renderer, data))


def _along(fields: tuple[float, ...] | Array, depth_mm: float) -> Array:
    fields = np.asarray(fields)
    return np.stack([fields, fields, np.full(len(fields), depth_mm)], axis=1)


def _section(tracer: RayTracer, depth_mm: float) -> Section:
    surfaces = tracer.outline(PROFILE)
    edges = [
        np.stack([near[end], far[end]]) for (near, glass), (far, _) in pairwise(surfaces) if glass for end in (0, -1)
    ]
    stop = surfaces[tracer.stop][0]
    height, z = float(stop[-1, 1]), float(stop[-1, 0])
    half = float(np.hypot(*tracer.half_sensor))
    length = tracer.length_mm
    marks = [np.array([[z, side * height], [z, side * (height + 0.06 * length)]]) for side in (1, -1)]
    profiles = [profile for i, (profile, _) in enumerate(surfaces) if i != tracer.stop or np.ptp(profile[:, 0]) > 0]
    objects = tracer.object_points(_along(DRAWN_FIELDS, depth_mm))
    radius = np.hypot(objects[:, 0], objects[:, 1])
    objects = np.stack([radius, np.zeros_like(radius), objects[:, 2]], axis=1)  # turned into the plane of the drawing
    waves = np.full(len(objects), tracer.primary_um)
    pupils = find_pupils(tracer, objects, waves, symmetric=False)
    fan = np.stack([np.linspace(-1, 1, FAN) / 1.02, np.zeros(FAN)], axis=1)
    paths = tracer.paths(objects, pupils.place(fan), waves, start_z=-0.25 * length)
    rays = [[_until_stopped(path[:, [2, 0]]) for path in field.swapaxes(0, 1)] for field in paths]
    return Section(profiles, edges, marks, np.array([[length, -half], [length, half]]), rays)


def _until_stopped(path: Array) -> Array:
    return path[~np.isnan(path).any(axis=1)]


def _spot(tracer: RayTracer, field: float, data: PsfData) -> Spot:
    waves = np.array([wave for channel in data.channels() for wave, _ in channel])
    place = tracer.object_points(_along((field,), data.depths_mm[0]))
    objects = np.repeat(place, len(waves), axis=0)
    pupils = find_pupils(tracer, objects, waves, symmetric=False)
    chief = tracer.chief_rays(place, np.array([tracer.primary_um]), pupils.take(slice(0, 1)))
    center = tracer.or_pinhole(chief, place)
    disc = disc_points(sobol(SPOT_RAYS), np.zeros(2, np.uint32))
    hits, valid = tracer.hits(objects, pupils.place(disc), waves)
    landed = {float(wave): 1e3 * (hit[ok] - center) for wave, hit, ok in zip(waves, hits, valid, strict=True)}
    together = np.concatenate(list(landed.values()))
    return Spot(field, landed, float(np.sqrt(together.var(axis=0).sum())) if len(together) else float("nan"))


def _curves(renderer: KernelRenderer, data: PsfData) -> Curves:
    tracer = renderer.tracer
    points = _along(np.concatenate([[NEAR_AXIS], np.linspace(0, 1, CURVE)[1:]]), data.depths_mm[0])
    green = ((tracer.primary_um, 1.0),)
    kernels = renderer.render(points, Tracing((green,), data.trace_px, 1, SPOT_RAYS, centre=data.centre))
    ideal = np.hypot(*tracer.pinhole_images(tracer.object_points(points)).T)
    shift = kernels.chief_ray_offset_px * tracer.pixel_mm
    outwards = shift @ (tracer.half_sensor / np.hypot(*tracer.half_sensor))  # upright, as the ideal image is
    scale = 1 + outwards / ideal
    rms = kernels.rms_radius_px[:, 0] * tracer.pixel_mm * 1e3
    return Curves(ideal, scale / scale[0] - 1, kernels.relative_illumination[:, 0].astype(float), rms.astype(float))
