"""DeepLens' own network of a lens' PSFs, PSFNetLens, trained by its own method: what a model of the same kernels is compared with.

Its sampler, loss, optimizer, schedule and network are used as they are, through its public methods. Where a number of its own
does not fit the data section's, and where it mistakes its own convention, it is set right from outside, in its favour:

* Its network answers 128 x 128 pixels, and no other number. These get the traced window's size, and are pooled afterwards
  as our kernels are. Pixels of the model's size, which could be cut to the window, lose far more: its turn by bilinear
  interpolation blurs them (relative L2 0.27 on the shipped triplet, in place of 0.04, before anything is learned).
* It draws field angles up to the sensor's half-diagonal, but places objects by half the sensor's height: it would label
  kernels of a square sensor with 1.4 times their field, and never see the corner. A sensor whose half-height is the
  half-diagonal makes both mean the same.
* DeepLens draws rays from an entrance pupil that misses light off the axis, which held-out kernels have (relative L2 0.08).
* It turns kernels by normalised x and y, which is wrong where width and height differ; they are brought to one unit.
* It is in training mode until it is told otherwise, and answers to one focus distance at a time.

N = field point, C = channel, K = model kernel pixel.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.geolens import PSFNetLens
from deeplens_workers.lens_data import PixelFilter
from deeplens_workers.lens_file import LensFile
from deeplens_workers.pooling import area_weights, triangle_weights
from deeplens_workers.psf_data import PsfData
from deeplens_workers.pupil import find_pupils
from deeplens_workers.raytrace import RayTracer
from deeplens_workers.threads import one_thread

SIDE = 128
"""Pixels of the network's kernel."""
CHUNK = 32  # kernels computed at once: some 100 MB
RADII = 33  # fields at which all of the light is looked for
# What fits a minute on a CPU better than DeepLens' own 128 and 5e-5, which are for a hundred thousand steps on a GPU.
BATCH, LEARNING_RATE = 8, 3e-3
TIMED_STEPS = 3


@dataclass(frozen=True, eq=False)
class TrainedPsfNet:
    """A trained PSFNetLens, and what that took.

    Args:
        net: the lens' network.
        half_sensor: [2] half the width and height of the sensor in mm.
        kernel_px, pixel_filter: side K of the kernels, and what their pixels gather.
        steps: optimizer steps.
        training_seconds: wall-clock time of all of them.
        tracing_seconds: that part of it in which DeepLens traced the steps' kernels.
    """

    net: Any
    half_sensor: NDArray[np.float64]
    kernel_px: int
    pixel_filter: PixelFilter
    steps: int
    training_seconds: float
    tracing_seconds: float

    @property
    def bytes(self) -> int:
        """Size of what must be kept: the network's weights and running means."""
        return sum(value.numel() * value.element_size() for value in self.net.psfnet.state_dict().values())

    def kernels(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Kernels [N, C, K, K], unit sum per channel, oriented and centred as `Kernels.kernels`.

        Args:
            points: [N, 4] x and y normalised to half the sensor's width and height; depth and focus distance in mm,
                negative.
        """
        unit = torch.from_numpy((self.half_sensor / self.net.lens.r_sensor).astype(np.float32))
        pooling = area_weights if self.pixel_filter == "box" else triangle_weights
        weights = torch.from_numpy(pooling(SIDE, self.kernel_px).astype(np.float32))
        found = []
        with torch.inference_mode():
            for chunk in torch.from_numpy(points).split(CHUNK):
                places = torch.cat([chunk[:, :2] * unit, chunk[:, 2:]], dim=1)
                pooled = weights @ self.net.psf_rgb(places, ks=SIDE).cpu() @ weights.T
                # Its network's kernels have unit sum; what its turn moves over the edge is gone.
                found.append(pooled / pooled.sum(dim=(-2, -1), keepdim=True))
        return np.asarray(torch.cat(found).numpy())


def train_psfnet(
    lens: LensFile,
    data: PsfData,
    seconds: float,
    seed: int,
    *,
    steps: int | None = None,
    batch_size: int = BATCH,
    learning_rate: float = LEARNING_RATE,
    all_threads: bool = False,
) -> TrainedPsfNet:
    """Train DeepLens' network on the lens and ranges of a data section, in this process.

    Its learning rate falls to zero at its last step, whose number it must know beforehand: a few steps of another network
    are timed first, outside of the training's time. It trains on a GPU if there is one, as DeepLens decides, and
    answers on the CPU.

    Args:
        lens: of the data section.
        data: with what a run takes from the lens file; `depths_mm` and `focus_mm` are read as ranges.
        seconds: wall-clock time to train for, nearly.
        seed: of weights, field points and rays. With `steps` too, the result is the same every time.
        steps: optimizer steps, instead of those that fit in `seconds`.
        batch_size: kernels of a step.
        learning_rate: the highest, after warm-up.
        all_threads: train with torch's threads as they are, in place of one.

    Raises:
        ValueError: the data section or its lens is none that the network can answer for.
    """
    _check(data)
    with _seeded(seed), nullcontext() if all_threads else one_thread():
        tracer = RayTracer(lens, data.pixel_pitch_um)
        if not tracer.symmetric:
            raise ValueError(f"lens {lens.name}: PSFNetLens turns one meridian's kernels, but this lens is not centred")
        disc = _disc_of_all_light(tracer, data)
        if steps is None:
            trial = _load(lens, data, disc)
            _train(trial, 1, batch_size, learning_rate)  # the first is slower
            each = _train(trial, TIMED_STEPS, batch_size, learning_rate) / TIMED_STEPS
            steps = max(1, round(seconds / each))
        with _seeded(seed):  # again: what was drawn before must not matter
            net = _load(lens, data, disc)
            took = _train(net, steps, batch_size, learning_rate)
    net.eval()
    net.psfnet.cpu()  # where it is compared
    pixels = data.kernel_px, data.pixel_filter
    return TrainedPsfNet(net, tracer.half_sensor, *pixels, steps, took, net.tracing_seconds)


class _Net(PSFNetLens):
    """PSFNetLens whose tracing is timed, and whose points have a focus distance each."""

    tracing_seconds = 0.0

    def sample_training_data(self, num_points: int = 512, concentration_factor: float = 2.0) -> Any:
        began = time.perf_counter()
        sample = super().sample_training_data(num_points, concentration_factor)
        self.tracing_seconds += time.perf_counter() - began
        return sample

    def points2input(self, points: torch.Tensor) -> torch.Tensor:
        """[N, 3] of points [N, 4], scaled as `sample_training_data` does."""
        given: torch.Tensor = super().points2input(points[:, :3])
        return torch.cat([given[:, :2], points[:, 3:] / 1000], dim=1)


def _check(data: PsfData) -> None:
    channels = data.channels()
    if len(channels) != 3 or any(len(channel) > 1 for channel in channels):
        raise ValueError(f"PSFNetLens has three channels of one wavelength each, but got {list(data.wavelengths_um)}")
    if not data.focus_mm:
        raise ValueError("PSFNetLens needs `focus_mm`, which it is trained over")
    if data.psf_model != "geometric" or not data.recenter:
        raise ValueError("PSFNetLens is trained on geometric kernels centred on the chief ray")
    if data.kernel_px > SIDE:
        raise ValueError(f"`kernel_px <= {SIDE}` must hold, PSFNetLens' own pixels, but got {data.kernel_px}")


def _load(lens: LensFile, data: PsfData, disc: tuple[float, float]) -> _Net:
    """An untrained network of the lens, with the data section's ranges and window."""
    with redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "lens.json")
        path.write_text(lens.text)
        waves = [channel[0][0] for channel in data.channels()]
        net = _Net(str(path), kernel_size=SIDE, primary_wvln=lens.conditions.primary_um, wvln_rgb=waves)
    # The lens takes its file's wavelengths instead.
    net.lens.wvln_rgb = waves
    net.d_close, net.d_far = max(data.depths_mm), min(data.depths_mm)
    net.foc_d_close, net.foc_d_far = max(data.focus_mm), min(data.focus_mm)
    net.lens.sensor_size = (2 * net.lens.r_sensor, 2 * net.lens.r_sensor)
    net.lens.pixel_size = net.pixel_size = data.pixel_pitch_um * 1e-3 * data.trace_px / SIDE
    # On the instance: every change of focus finds the pupil anew.
    net.lens.get_entrance_pupil = lambda paraxial=False: disc
    return net


def _train(net: _Net, steps: int, batch_size: int, learning_rate: float) -> float:
    """Train by DeepLens' loop; wall-clock seconds."""
    began = time.perf_counter()
    with redirect_stderr(io.StringIO()):  # a progress bar
        # It makes one step more than it is told. Pictures and files come every so many steps: never.
        net.train_psfnet(iters=steps - 1, bs=batch_size, lr=learning_rate, evaluate_every=steps + 1)
    return time.perf_counter() - began


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """DeepLens draws from the global generators of torch and NumPy: seeded here, and left as they were."""
    state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def _disc_of_all_light(tracer: RayTracer, data: PsfData) -> tuple[float, float]:
    """z and radius in mm of the smallest disc about the axis that the light of all field points passes."""
    radii = np.linspace(0, np.hypot(*tracer.half_sensor), RADII)
    radius, depth, wave = (
        values.ravel()
        for values in np.meshgrid(
            radii, [max(data.depths_mm), min(data.depths_mm)], [channel[0][0] for channel in data.channels()]
        )
    )
    places = np.stack([radius * -depth / tracer.foclen, np.zeros_like(radius), depth], axis=1)
    pupils = find_pupils(tracer, places, wave, symmetric=True)
    reach = np.abs(pupils.center[:, 0]) + pupils.radii.max(axis=1)
    return float(tracer.pupil(places)[0][0]), float(reach.max())
