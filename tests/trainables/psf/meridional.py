"""A small, really rendered data set of the meridional frame: the triplet over depth, on a sensor that is not square."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.dataset import aspect
from deeplens_workers.kernels import Tracing
from deeplens_workers.lens_file import LensFile
from deeplens_workers.preparation import PsfPreparation
from deeplens_workers.psf_data import PsfData
from deeplens_workers.render import KernelRenderer, load
from trainables.psf.turning import Turned

PREPARATION = PsfPreparation()


def meridional(**changes) -> tuple[PsfData, LensFile]:
    """The data section as a run writes it down, and its lens."""
    fields = {
        "lens": "cooke_triplet_50mm",
        "sensor_mm": (28.0, 20.0),
        "frame": "meridional",
        "train_points": 48,
        "grid": (3, 3),
        "depths_mm": (-10000, -4000),
        "wavelengths_um": (0.656, 0.486),
        "pixel_pitch_um": 12.8,
        "trace_px": 16,
        "kernel_px": 8,
        "rays": 512,
        "held_out_rays": 4096,
        "validation_points": 8,
        "test_points": 4,
    }
    data = PsfData(**(fields | changes))
    lens = PREPARATION.find(data)
    assert isinstance(lens, LensFile)
    return PREPARATION.resolved(data, lens), lens


def turned(data: PsfData) -> Turned:
    return Turned(data.trace_px, aspect(data), data.pixel_filter)


@cache
def _renderer(lens: LensFile, pixel_pitch_um: float) -> KernelRenderer:
    return load(lens, pixel_pitch_um)


def kernels(lens: LensFile, points: NDArray[np.float32], how: tuple[float, Tracing]) -> torch.Tensor:
    """[N, C, K, K] of field points, traced as `deeplens_workers.dataset.training` says."""
    pitch, tracing = how
    return torch.from_numpy(_renderer(lens, pitch).render(points, tracing).kernels)


def prepared(cache: Path, **changes) -> dict[str, str]:
    """The sets that a learner opens."""
    data, lens = meridional(**changes)
    return dict(PREPARATION.prepare(data, lens, 0, cache, actors=0).sets)
