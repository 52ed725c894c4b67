"""DeepLens' own network, PSFNetLens, on the Cooke triplet over field, depth and focus: what its error is after so many seconds.

    python -m benchmarks.psfnet

It trains by its own method on one thread (deeplens_workers/psfnet.py), and answers at held-out positions, which are even in x, y
and the vergence of depth and focus. Ours, given the time that its training took in fact, answers at the same positions.
`psfnet_ratio` is our error over its error.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import spaces.loading
from benchmarks._shared import Options, the_study
from deeplens_workers.dataset import requests
from deeplens_workers.lens_file import LensFile
from deeplens_workers.psf_data import PsfData
from trainables.psf.metrics import relative_l2
from trainables.timing import fastest

DISTANCES = ("data.depths_mm=[-5000, -20000]", "data.focus_mm=[-6000, -15000]")
PIXELS = ("data.pixel_pitch_um=3.2", "data.trace_px=64", "data.kernel_px=32")
KERNELS_PER_SECOND = 50  # that we have traced, of the time there is: a quarter of it goes there
TIMED_STEPS = 150
PAIRS = 4  # of a depth and a focus distance: a study's held-out positions are counted for each


@dataclass(frozen=True)
class Answer:
    """A method's kernels [N, C, K, K] at the held-out points, and what they cost."""

    kernels: NDArray[np.float32]
    bytes: int
    ms_per_psf: float
    steps: int
    seconds: float


def theirs(lens: LensFile, data: PsfData, points: NDArray[np.float32], sizes: tuple[int, int], seed: int) -> Answer:
    from deeplens_workers.psfnet import train_psfnet
    from deeplens_workers.threads import one_thread

    seconds, batch_size = sizes
    net = train_psfnet(lens, data, seconds, seed, batch_size=batch_size)
    share = net.tracing_seconds / net.training_seconds
    print(
        f"PSFNetLens: {net.steps} steps of {batch_size} kernels in {net.training_seconds:.1f} s, {share:.0%} of it tracing"
    )
    with one_thread():
        kernels, took = fastest(lambda: net.kernels(points))
    return Answer(kernels, net.bytes, 1e3 * took / len(points), net.steps, net.training_seconds)


def ours(lens: LensFile, data: PsfData, points: NDArray[np.float32], seconds: float, seed: int) -> Answer:
    """What the space `vae_psf` begins its search with, after as much wall-clock time, the tracing of its kernels included.

    The speed of its steps is measured first, outside of that time, as that of the other network is.
    """
    from deeplens_workers.dataset import aspect, grid_points
    from deeplens_workers.render import load
    from deeplens_workers.threads import one_thread
    from trainables.psf.data import PsfTensors
    from trainables.psf.learner import CvaePsfLearner, size_of
    from trainables.psf.metrics import predict
    from trainables.psf.turning import Turned
    from trainables.training.loop import train
    from trainables.training.task import TrainingTask

    study = spaces.loading.load("vae_psf")
    count = max(64, round(KERNELS_PER_SECOND * seconds))
    meridional = data.model_copy(update={"frame": "meridional", "train_points": count})
    trial, learner = study.trial(study.first_trials()[1]), CvaePsfLearner()
    with one_thread(), tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        request = requests(meridional, lens, seed)["train"]
        kernels = load(lens, request.pixel_pitch_um).render(request.points, request.tracing).kernels
        tracing = time.perf_counter() - began
        for name, (k, p) in {
            "train": (kernels, request.points),
            "validation": (kernels[:1, :, : data.kernel_px, : data.kernel_px], points[:1]),
        }.items():
            Path(directory, name).mkdir()
            np.save(Path(directory, name, "kernels.npy"), k)
            np.save(Path(directory, name, "points.npy"), p)
        Path(directory, "grid").mkdir()
        np.save(Path(directory, "grid", "points.npy"), grid_points(data))
        train_set, validation, grid = (Path(directory, name) for name in ("train", "validation", "grid"))
        tensors = PsfTensors.load(
            train_set, validation, turned=Turned(data.trace_px, aspect(data), data.pixel_filter), grid=grid
        )

        def trained(steps: int) -> tuple[Any, float]:
            began = time.perf_counter()
            task = TrainingTask(
                study.model,
                trial,
                seed,
                steps,
                (steps,),
                str(Path(directory, str(steps))),
                metric=study.objective.metric,
                mode="min",
            )
            (report,) = train(task, learner, tensors)
            return report.network, time.perf_counter() - began

        fitting = time.perf_counter()
        assert tensors.basis.scores is not None
        fitting = time.perf_counter() - fitting
        _, each = trained(TIMED_STEPS)
        steps = max(1, round((seconds - tracing - fitting) / (each / TIMED_STEPS)))
        network, training = trained(steps)
        print(
            f"ours: {count} kernels traced in {tracing:.1f} s, components in {fitting:.1f} s, {steps} steps in {training:.1f} s"
        )
        network.eval()
        answer, took = fastest(lambda: predict(network, torch.from_numpy(points)))
    return Answer(answer.numpy(), size_of(network), 1e3 * took / len(points), steps, tracing + fitting + training)


def main() -> None:
    options = Options(__doc__)
    options.add_size("--seconds", 60, 2, "wall-clock time to train for")
    options.add_size("--positions", 300, 8, "held-out positions")
    options.add_size("--batch", 8, 2, "kernels of a step of PSFNetLens'")
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse()
    per_pair = max(1, arguments.positions // PAIRS)
    study, lens = the_study(arguments.tiny, *DISTANCES, *PIXELS, f"data.test_points={per_pair}")
    data = study.data
    assert isinstance(data, PsfData)
    assert isinstance(lens, LensFile)

    from deeplens_workers.render import load

    held_out = requests(data, lens, arguments.seed)["test"]
    points = held_out.points
    true = torch.from_numpy(load(lens, data.pixel_pitch_um).render(points, held_out.tracing).kernels)

    found = {"PSFNetLens": theirs(lens, data, points, (arguments.seconds, arguments.batch), arguments.seed)}
    found["ours"] = ours(lens, data, points, found["PSFNetLens"].seconds, arguments.seed)
    print(f"{len(points)} held-out positions, {data.kernel_px} x {data.kernel_px} pixels")
    print(f"{'':12}{'rel. L2':>9}{'median':>9}{'ms per PSF':>12}{'bytes':>12}{'steps':>8}{'seconds':>9}")
    means = {}
    for name, answer in found.items():
        errors = relative_l2(torch.from_numpy(answer.kernels), true)
        means[name] = float(errors.mean())
        print(
            f"{name:12}{means[name]:9.4f}{float(errors.median()):9.4f}{answer.ms_per_psf:12.3f}{answer.bytes:12,}"
            f"{answer.steps:8}{answer.seconds:9.1f}"
        )
    print(f"psfnet_error={means['PSFNetLens']:.4f} psfnet_ms={found['PSFNetLens'].ms_per_psf:.3f}")
    print(f"psfnet_ratio={means['ours'] / means['PSFNetLens']:.4f}")


if __name__ == "__main__":
    main()
