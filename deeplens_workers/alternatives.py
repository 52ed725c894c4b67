"""What ray tracing itself and DeepLens' own network answer at field points: they stand beside a search's winner."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.dataset import tracings
from deeplens_workers.lens_file import LensFile
from deeplens_workers.psf_data import PsfData
from deeplens_workers.psfnet import train_psfnet
from deeplens_workers.render import load
from deeplens_workers.threads import one_thread
from spaces.seeding import named_seed
from spaces.system import DataSection, Source

SEED = 0


@dataclass(frozen=True)
class Answer:
    """Kernels [N, C, K, K] and what they cost: bytes that are kept, seconds for one on one thread, seconds of training."""

    kernels: NDArray[np.float32]
    bytes: int
    seconds_per_psf: float
    training: float = 0.0


def answers(data: DataSection, source: Source, points: NDArray[np.float32], seconds: float) -> dict[str, Answer]:
    """The renderer's, and that of DeepLens' network after so many seconds of training where it can answer.

    Args:
        points: [N, 3 or 4], as `RenderRequest` has them.
    """
    assert isinstance(data, PsfData)
    assert isinstance(source, LensFile)
    found = {}
    if data.psf_model == "geometric":  # the others take seconds per kernel
        found["renderer"] = _rendered(data, source, points)
    if data.focus_mm:
        try:
            net = train_psfnet(source, data, seconds, SEED)
        except ValueError:  # the lens, the channels or the kernels are none of its own
            return found
        with one_thread():
            began = time.perf_counter()
            kernels = net.kernels(points)
        found["psfnet"] = Answer(kernels, net.bytes, (time.perf_counter() - began) / len(points), net.training_seconds)
    return found


def _rendered(data: PsfData, lens: LensFile, points: NDArray[np.float32]) -> Answer:
    """With the rays of kernels to train on, and others than those of the true ones."""
    tracing = replace(tracings(data)[0], seed=named_seed(SEED, "alternatives") % 2**31)
    renderer = load(lens, data.pixel_pitch_um)
    renderer.render(points[:1], tracing)  # compiles
    began = time.perf_counter()
    kernels = renderer.render(points, tracing).kernels
    return Answer(kernels, len(lens.text.encode()), (time.perf_counter() - began) / len(points))
