"""Rendered kernels in the store of prepared data (spaces/store.py): what determines them, and their arrays."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.glasses import deeplens_version
from deeplens_workers.kernels import Kernels, RenderRequest, Units
from deeplens_workers.lens_file import LensFile
from spaces import store

# Part of every key. Raise it when a change of this package changes the kernels' bits.
RENDER_VERSION = 7

_UNITS = {
    "points": "x, y: normalised to half the sensor's width and height; depth and focus: mm, negative",
    "kernels": "share of the energy in the kernel's window; each channel sums to 1",
    "chief_ray_offset_px": "sensor pixels, x right and y up, chief ray minus pinhole image",
    "lateral_color_px": "sensor pixels, x right and y up, chief ray of the channel minus that of the primary wavelength",
    "rms_radius_px": "sensor pixels, about the rays' centroid",
    "lost": "share of the rays reaching the sensor that fall outside the kernel's window",
    "relative_illumination": "illuminance relative to the axis, of a scene that is equally bright everywhere",
    "rays": "rays a kernel was made of",
    "units": "deviations of each unit from the design, in standard deviations",
}


def key(request: RenderRequest) -> str:
    """Content hash (64 hex digits) of the lens and every parameter that affects the kernels."""
    return store.key(_parameters(request))


def write(cache: Path, request: RenderRequest, kernels: Kernels, cpu_seconds: float | None = None) -> Path:
    """Add an entry and return its directory; if another process was faster, its equal entry is kept.

    Args:
        cpu_seconds: what the kernels took, where that is known.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    arrays = {"points": _points(request), **{name: getattr(kernels, name) for name in Kernels.names()}}
    if request.units is not None:
        arrays["units"] = request.units.values.astype(np.float32)
    about = {"source": {"name": request.lens.name, "sha256": request.lens.sha256}, "cpu_seconds": cpu_seconds}
    return store.write(cache, _parameters(request), arrays, about=about, units=_UNITS)


def read(entry: Path) -> Kernels:
    """The kernels of an entry, memory-mapped and read-only; now is its last use. They outlive the entry's removal.

    Raises:
        FileNotFoundError: there is no such entry (any more).
    """
    return Kernels(**store.read(entry, Kernels.names()))


def cpu_seconds(entry: Path) -> float | None:
    """What rendering an entry's kernels took, whenever that was; None of an entry that does not say."""
    return store.manifest(entry).get("cpu_seconds")


def _parameters(request: RenderRequest) -> dict[str, Any]:
    points, tracing = _points(request), asdict(request.tracing)
    if request.tracing.filter_unsaid:
        del tracing["pixel_filter"]
    return {
        "render_version": RENDER_VERSION,
        "deeplens": deeplens_version(),
        "lens": request.lens.digest,
        "points": len(points),
        "points_sha256": hashlib.sha256(points.tobytes()).hexdigest(),
        "pixel_pitch_um": float(request.pixel_pitch_um),
        **tracing,
        **({} if request.units is None else {"units": _made(request.lens, request.units)}),
    }


def _made(lens: LensFile, units: Units) -> dict[str, Any]:
    values = np.ascontiguousarray(units.values, dtype=np.float64)
    return {
        "tolerances": units.tolerances.resolved(),
        "count": len(values),
        "values_sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        "focus_mm": units.focus_mm,
        # Of the lens, whose digest says all; here for readers: which mirror images of a unit are units.
        "centred": lens.centred,
        "sensor_mm": list(lens.conditions.sensor_mm),
    }


def _points(request: RenderRequest) -> NDArray[np.float32]:
    return np.ascontiguousarray(request.points, dtype=np.float32)
