"""Small requests on the shipped lenses; importing deeplens once per session."""

from typing import Any

import numpy as np
import pytest

from deeplens_workers.kernels import RenderRequest
from deeplens_workers.lens_file import find_lens

WAVELENGTHS = (0.656, 0.587, 0.486)


@pytest.fixture(scope="session")
def tracer():
    """A RayTracer by lens name and pixel pitch, each loaded once."""
    from deeplens_workers.raytrace import RayTracer

    loaded: dict[tuple[str, float], RayTracer] = {}

    def load(name: str, pixel_pitch_um: float = 3.2) -> RayTracer:
        key = (name, pixel_pitch_um)
        if key not in loaded:
            loaded[key] = RayTracer(find_lens(name).path, pixel_pitch_um)
        return loaded[key]

    return load


@pytest.fixture
def make_request():
    """A small RenderRequest on the triplet; any field can be overridden."""

    def make(count: int = 4, **changes) -> RenderRequest:
        xy = np.random.default_rng(7).uniform(-1, 1, (count, 2))
        fields: dict[str, Any] = {
            "lens": find_lens("cooke_triplet_50mm"),
            "points": np.column_stack([xy, np.full(count, -10000.0)]).astype(np.float32),
            "pixel_pitch_um": 3.2,
            "wavelengths_um": WAVELENGTHS,
            "trace_px": 64,
            "kernel_px": 15,
            "rays": 256,
            "seed": 0,
        }
        return RenderRequest(**(fields | changes))

    return make
