"""Lens files written for a test, read, and what the tests ask of the lens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from deeplens_workers.lens_file import LensFile, find_lens
from spaces.errors import SpaceError
from tests.deeplens_workers.conftest import at_depth, tracing
from tests.deeplens_workers.lens_writers import Design, codev, write, zemax
from tests.deeplens_workers.reference import bk7

WRITERS = {".zmx": zemax, ".seq": codev}
N = bk7(0.5875618)


def thick_lens(r1: float, r2: float, thickness: float, n: float) -> float:
    """Focal length by the lensmaker's equation."""
    return 1 / ((n - 1) * (1 / r1 - 1 / r2 + (n - 1) * thickness / (n * r1 * r2)))


F = thick_lens(50.0, -50.0, 4.0, N)


def found(folder, design: Design, suffix: str, **options) -> LensFile:
    return find_lens(write(folder, f"mine{suffix}", WRITERS[suffix](design)), **options)


def refused(folder, name: str, text: str | bytes, **options) -> str:
    path = write(folder, name, text)
    with pytest.raises(SpaceError) as caught:
        find_lens(path, **options)
    message = str(caught.value)
    assert message.startswith(f"lens {path}: ")
    assert "\n" not in message
    return message.removeprefix(f"lens {path}: ")


def rendered_rms_um(lens: LensFile, field: tuple[float, float]) -> float:
    """RMS spot radius by the renderer, from the lens' JSON."""
    from deeplens_workers.render import load

    pitch = 20.0
    points = at_depth(np.array([field]), lens.conditions.depth_mm)
    made = load(lens, pitch).render(points, tracing(4096, (lens.conditions.primary_um,), px=(192, 64)))
    return float(made.rms_radius_px[0, 0]) * pitch


def lens_surfaces(lens: LensFile) -> list[dict[str, Any]]:
    """The surfaces of the file: without the flat stop that stands in front of a curved one."""
    return [surface for surface in json.loads(lens.text)["surfaces"] if surface["type"] != "Aperture"]


def stop_radius(lens: LensFile) -> float:
    """Semi-diameter of the stop in mm."""
    return next(float(surface["r"]) for surface in json.loads(lens.text)["surfaces"] if surface.get("is_aperture"))


def direction(lens: LensFile, field: tuple[float, float]) -> float:
    """Tangent of a field point's angle: pinhole projection."""
    half = np.array(lens.conditions.sensor_mm) / 2
    assert lens.conditions.focal_length_mm is not None
    return float(np.hypot(*(half * field))) / lens.conditions.focal_length_mm
