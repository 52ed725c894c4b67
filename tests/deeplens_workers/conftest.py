"""Small requests on the shipped lenses; importing deeplens once per session."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from deeplens_workers.kernels import RenderRequest, Tracing
from deeplens_workers.lens_file import find_lens

WAVELENGTHS = (0.656, 0.587, 0.486)
TRACING = {field.name for field in fields(Tracing)}


def tracing(rays: int, wavelengths=WAVELENGTHS, px: tuple[int, int] = (64, 15), **changes) -> Tracing:
    """One channel for each wavelength."""
    base = Tracing(tuple(((wavelength, 1.0),) for wavelength in wavelengths), *px, rays)
    return replace(base, **changes)


def at_depth(xy, depth_mm):
    """Field points [N, 3] at one depth, or each at its own."""
    return np.column_stack([xy, np.broadcast_to(depth_mm, len(xy))]).astype(np.float32)


def rel_l2(a, b):
    """||a - b|| / ||b|| of each point."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="session")
def renderer():
    """A KernelRenderer by lens name and pixel pitch, each loaded once."""
    from deeplens_workers.render import KernelRenderer, load

    loaded: dict[tuple[str, float], KernelRenderer] = {}

    def get(name: str, pixel_pitch_um: float = 3.2) -> KernelRenderer:
        key = (name, pixel_pitch_um)
        if key not in loaded:
            loaded[key] = load(find_lens(name), pixel_pitch_um)
        return loaded[key]

    return get


@pytest.fixture
def make_request():
    """A small RenderRequest on the triplet; any field of it or of its tracing can be overridden."""

    def make(count: int = 4, rays: int = 256, **changes) -> RenderRequest:
        xy = np.random.default_rng(7).uniform(-1, 1, (count, 2))
        settings = {name: changes.pop(name) for name in list(changes) if name in TRACING}
        fields: dict[str, Any] = {
            "lens": find_lens("cooke_triplet_50mm"),
            "points": np.column_stack([xy, np.full(count, -10000.0)]).astype(np.float32),
            "pixel_pitch_um": 3.2,
            "tracing": tracing(rays, **settings),
        }
        return RenderRequest(**(fields | changes))

    return make
