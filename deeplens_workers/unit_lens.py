"""A unit as a lens file: DeepLens' JSON, of which DeepLens and every command here make the unit's own rays.

What that format has no word for is said otherwise, or told:

* The sensor cannot be tilted. The file is in the frame of the unit's sensor: lens and objects are turned about its middle.
* A glass is a name of a catalogue, or an index and an Abbe number, of which n = A + B / wavelength^2. A melt's index is of that
  form at one or two wavelengths; at more it is fitted.

Lengths in mm, wavelengths in um.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeplens_workers.asbuilt_data import AsBuiltData
from deeplens_workers.asbuilt_preparation import manufacture, tracings, unit_focus
from deeplens_workers.glasses import abbe_name, find_glass, for_thermal_infrared, is_glass
from deeplens_workers.lens_file import LensFile
from deeplens_workers.lens_files.deeplens_json import OF_LENS, SAMPLING, WAVELENGTHS
from deeplens_workers.lens_files.glass_names import D_LINE
from deeplens_workers.tolerances import draw
from deeplens_workers.units import Array, AsBuilt, GlassChange, rotation
from spaces.errors import SpaceError

SETS = ("train", "validation", "test", "stream")
"""That units are of. Each is endless: how many of its units a search has does not change them."""
EXACT = 1e-8
"""Differences of an index that move no ray by a nanometre."""


@dataclass(frozen=True)
class UnitLens:
    """A unit's lens file: its text, and sentences on what the format does not say as it is."""

    text: str
    notes: tuple[str, ...]


def parse_unit(name: str) -> tuple[str, int]:
    """Set and number of a unit such as `train/17`; numbers count from 0.

    Raises:
        SpaceError: it is none.
    """
    of, slash, number = name.partition("/")
    if of not in SETS or not slash or not (number.isascii() and number.isdigit()):
        raise SpaceError(
            f"--unit: expected SET/NUMBER such as train/17, SET one of {', '.join(SETS)}, but got {name!r}"
        )
    return of, int(number)


def unit_lens(data: AsBuiltData, lens: LensFile, seed: int, name: str, number: int) -> UnitLens:
    """One unit of a set, focused by its compensator. Focusing traces rays, for which DeepLens is loaded (5 s).

    Args:
        data: a resolved data section, of this lens.
        seed: of the run.
        name: of the set, one of `SETS`.
        number: of the unit in it, from 0.

    Raises:
        SpaceError: no light reaches its sensor, or DeepLens takes none of its glasses' wavelengths.
    """
    made = manufacture(data, lens)
    (values,) = draw(data.tolerances, 1, seed, name, len(made.deviations), first=number)
    unit = made.unit(values)
    waves = tracings(data)[0].wavelengths
    surfaces, notes = _in_the_sensors_frame(unit, _length(data, lens, unit))
    surfaces, melts = _with_melts(surfaces, unit.glasses, waves, lens)
    own = json.loads(lens.text)
    tree = {
        "info": f"unit {name}/{number} of {lens.name}, as built",
        "(unit)": {
            "lens": lens.name,
            "seed": seed,
            "name": f"{name}/{number}",
            "deviations": {
                str(one): float(value) * one.sigma for one, value in zip(made.deviations, values, strict=True)
            },
        },
        **{key: own[key] for key in (*OF_LENS, "enpd") if key in own},
        "obj_depth": data.depths_mm[0],
        WAVELENGTHS: list(waves),
        SAMPLING: {"pixel_pitch_um": data.pixel_pitch_um, "trace_px": data.trace_px},
        "surfaces": surfaces,
    }
    return UnitLens(json.dumps(tree, indent=1), (*notes, *melts))


def _length(data: AsBuiltData, lens: LensFile, unit: AsBuilt) -> float:
    """From the first vertex of a focused unit to the middle of its sensor."""
    from deeplens_workers.raytrace import RayTracer

    try:
        tracer = RayTracer(lens, data.pixel_pitch_um)
        tracer.build(unit, unit_focus(data))
    except ValueError as error:
        raise SpaceError(str(error)) from None
    return tracer.length_mm


def turned(places: Array, unit: AsBuilt, length_mm: float) -> Array:
    """Places [..., 3] of a unit's frame in that of its file: turned about the sensor's middle, with the first vertex at z = 0.

    Args:
        length_mm: from the first vertex to the sensor.
    """
    turn, middle = rotation(*unit.tilt), np.array([0.0, 0.0, length_mm])
    first = np.array([*unit.surfaces[0]["pos_xy"], 0.0])
    found = (places - middle) @ turn
    found[..., 2] -= ((first - middle) @ turn)[2]
    return np.asarray(found)


def _in_the_sensors_frame(unit: AsBuilt, length_mm: float) -> tuple[list[dict[str, Any]], list[str]]:
    """The surfaces of a unit as its sensor sees them, and notes."""
    z = np.cumsum([0.0, *(surface["d_next"] for surface in unit.surfaces[:-1])])
    vertices = np.column_stack([np.array([surface["pos_xy"] for surface in unit.surfaces]), z])
    middle = np.array([[0.0, 0.0, length_mm]])
    places = turned(np.concatenate([vertices, middle]), unit, length_mm)
    normals = np.array([surface["vec_local"] for surface in unit.surfaces]) @ rotation(*unit.tilt)
    surfaces = [
        {key: value for key, value in surface.items() if key not in ("d", "(d)")}
        | {"d_next": float(d), "pos_xy": place[:2].tolist(), "vec_local": normal.tolist()}
        for surface, d, place, normal in zip(unit.surfaces, np.diff(places[:, 2]), places, normals, strict=False)
    ]
    notes = []
    if any(unit.tilt):
        x, y = (math.degrees(angle) * 60 for angle in unit.tilt)
        notes.append(
            f"the format has no tilted sensor: lens and objects are turned back by its ({x:.2f}, {y:.2f}) arc minutes about x and y"
        )
    tilted = normals[np.abs(normals[:, :2]).any(axis=1)]
    if (tilted[:, 2].astype(np.float32) == 1).any():
        notes.append(
            "DeepLens takes a tilt below 0.8 arc minutes for none in float32: load it with dtype=torch.float64"
        )
    return surfaces, notes


def _with_melts(
    surfaces: list[dict[str, Any]], changes: dict[int, GlassChange], waves: tuple[float, ...], lens: LensFile
) -> tuple[list[dict[str, Any]], list[str]]:
    """Surfaces with the unit's own glasses behind them, and a note on how exact these are."""
    if not changes:
        return surfaces, []
    if for_thermal_infrared(lens.glasses):
        raise SpaceError(
            f"lens {lens.name}: DeepLens' format has no changed glass of the thermal infrared; "
            "set data.tolerances.index=0 and data.tolerances.abbe_percent=0"
        )
    found, worst = [dict(surface) for surface in surfaces], 0.0
    for i, change in changes.items():
        glass = find_glass(surfaces[i]["mat2"])
        wanted = [change.of(glass.index(D_LINE), glass.index(wave)) for wave in waves]
        terms = np.polyfit(1e-6 * np.square(waves, dtype=float) ** -1.0, wanted, min(1, len(waves) - 1))
        name = abbe_name(float(terms[-1]), float(terms[0]) if len(terms) > 1 else 0.0)
        if not is_glass(name):
            raise SpaceError(
                f"lens {lens.name}: the index of {glass.name} rises with the wavelength, of which DeepLens' format has no changed "
                "glass; set data.tolerances.index=0 and data.tolerances.abbe_percent=0"
            )
        worst = max(
            worst, *(abs(find_glass(name).index(wave) - index) for wave, index in zip(waves, wanted, strict=True))
        )
        found[i]["mat2"] = name
    at = ", ".join(f"{wave:g}" for wave in waves)
    if worst < EXACT:
        return found, [f"changed glasses are written as index/Abbe number: exact at {at} um, and there alone"]
    return found, [
        f"changed glasses are written as index/Abbe number: within {worst:.1g} of the unit's at {at} um; exact at one or two "
        f"wavelengths, such as --set data.wavelengths_um=[{waves[0]:g},{waves[-1]:g}]"
    ]
