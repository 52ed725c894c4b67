"""Claim: on a GPU every network trains as on a CPU, lanes share it, and a step is one launch of a CUDA graph.

Five parts, each in a process of its own with a time limit, so that one that fails or hangs does not end the others: the tests of
marker `gpu`; trainings, alone and as several processes that share the GPU, without and with graphs; trials in
one batched network; one training of all GPUs; DeepLens'
tracing on either device. At most eight minutes. Tables are printed as benchmarks/RESULTS.md has them. The exit code is 1 if a part failed.
Without a GPU all of it runs on the CPU, as small as it goes. Any Python with the requirements will do:

    python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks._shared import Options
from spaces.loading import load
from spaces.system import system
from trainables.training.loop import train
from trainables.training.step import multiplies_bfloat16
from trainables.training.task import TrainingTask

WHOLE_S = 480.0
BUDGET = 100_000
"""Document 000's steps."""
GPUS = torch.cuda.device_count()
DEVICE = "cuda" if GPUS else "cpu"


@dataclass(frozen=True)
class Case:
    """A training, of a space's recommended hyperparameters but for `changes`."""

    name: str
    space: str
    kernel_px: int
    changes: dict[str, object]


CASES = (
    Case("document 000, batch 64", "cvae_psf", 15, {}),
    Case("components, batch 256", "vae_psf", 32, {"network": "basis", "batch_size": 256}),
    Case("convolutions, 64 px, batch 16", "vae_psf", 64, {"network": "conv"}),
    Case("convolutions, 64 px, batch 256", "vae_psf", 64, {"network": "conv", "batch_size": 256}),
)
SHARED = (CASES[0], CASES[2])
"""Trainings of which several run at once."""


def tests(arguments: argparse.Namespace) -> None:
    """What a GPU has to show: tests/trainables/test_gpu.py, and whatever else has the marker."""
    chosen = (
        ["tests/trainables/test_gpu.py", "-k", "graph_are_those and mlp"] if arguments.tiny else ["tests/trainables"]
    )
    # What takes no Ray comes first: the file's order.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", "-rs", "-m", "gpu", "--tb=short", "-p", "no:cacheprovider", *chosen],
        cwd=Path(__file__).parents[1],
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.returncode)


def trainings(arguments: argparse.Namespace) -> None:
    """Steps per second of each case alone, and of several processes that share the device."""
    most = max(arguments.lanes)
    with tempfile.TemporaryDirectory() as folder, get_context("spawn").Manager() as manager:
        sets = {px: synthetic_sets(Path(folder, str(px)), px) for px in {case.kernel_px for case in CASES}}
        with ProcessPoolExecutor(most, mp_context=get_context("spawn")) as lanes:

            def measured(case: Case, count: int, device: str, graphs: bool, every: int) -> tuple[float, int, str]:
                """Steps per second of so many at once, MiB of the first as torch counts them, and how busy the GPU was."""
                start = manager.Barrier(count)
                tiny = {"batch_size": 8, "base_width": 4} if arguments.tiny else {}
                small = replace(case, changes={**case.changes, **tiny}) if case.space == "vae_psf" else case
                jobs = [
                    lanes.submit(
                        lane, small, sets[case.kernel_px], folder, device, graphs, every, arguments.seconds, start, i
                    )
                    for i in range(count)
                ]
                found = [job.result() for job in jobs]
                return sum(one[0] for one in found), found[0][1], found[0][2]

            few, many = (2, 4) if arguments.tiny else (4, 50)
            gains = []
            print(
                "\n| one training | CPU, steps/s | GPU | GPU, graphs | 100,000 steps, s (extrapolated) | MiB | busy |"
            )
            print("|---|---:|---:|---:|---:|---:|---:|")
            for case in CASES[:1] if arguments.tiny else CASES:
                here, *_ = measured(case, 1, "cpu", False, few)
                there, *_ = measured(case, 1, DEVICE, False, many)
                by_graph, memory, busy = measured(case, 1, DEVICE, True, many)
                took = BUDGET / max(there, by_graph)
                print(
                    f"| {case.name} | {here:.1f} | {there:.0f} | {by_graph:.0f} | {took:.0f} | {memory} | {busy} |",
                    flush=True,
                )
                gains.append((by_graph / there, max(there, by_graph) / here))
            print(f"graphs_gain={max(gain for gain, _ in gains):.2f}\ngpu_to_cpu={max(gain for _, gain in gains):.2f}")

            print(
                "\n| so many at once | | steps/s of all | busy | graphs, steps/s of all | busy |\n|---|---:|---:|---:|---:|---:|"
            )
            rates: list[float] = []
            for case in SHARED[:1] if arguments.tiny else SHARED:
                for count in dict.fromkeys(arguments.lanes):
                    cells = []
                    for graphs in (False, True):
                        rate, _, busy = measured(case, count, DEVICE, graphs, many)
                        cells.append(f"{rate:.0f} | {busy}")
                        rates.append(rate)
                    print(f"| {case.name} | {count} | {' | '.join(cells)} |", flush=True)
            print(f"lanes_gain={max(rates) / rates[0]:.2f}")


def lane(
    case: Case,
    sets: dict[str, str],
    folder: str,
    device: str,
    graphs: bool,
    every: int,
    seconds: float,
    start: Any,
    index: int,
) -> tuple[float, int, str]:
    """One training for so long, from when all have made their first steps on."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // start.parties))
    learner, data = opened(case.space, tuple(sets.items()), device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        task = replace(task_of(case, Path(directory), every, 200), cuda_graphs=graphs)
        with closing(train(task, learner, data)) as reports:
            next(reports)
            start.wait(timeout=120)
            rates, began = [], time.perf_counter()
            with Busy(index == 0 and device == "cuda") as busy:
                for report in reports:
                    rates.append(report.metrics["train/steps_per_second"])
                    if time.perf_counter() - began > seconds:
                        break
    memory = torch.cuda.max_memory_allocated() // 2**20 if device == "cuda" else 0
    return median(rates), memory, busy.said


class Busy:
    """How much of the time the GPU had a kernel to run, as nvidia-smi says, while this is entered."""

    def __init__(self, asked: bool) -> None:
        self.said = "-"
        program = shutil.which("nvidia-smi") if asked else None
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0", "-lms", "200"]
        self._process = subprocess.Popen([program, *query], stdout=subprocess.PIPE, text=True) if program else None

    def __enter__(self) -> Busy:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        lines = self._process.communicate()[0].split()
        if samples := [float(line) for line in lines if line.isdigit()]:
            self.said = f"{sum(samples) / len(samples):.0f} %"


@cache
def opened(space: str, sets: tuple[tuple[str, str], ...], device: str) -> tuple[Any, Any]:
    """A space's learner, and its data on a device."""
    learner = system(load(space, []).model).make_learner()
    return learner, learner.open(dict(sets), device)


def task_of(case: Case, directory: Path, every: int, reports: int) -> TrainingTask:
    """A training that reports every so many steps."""
    study = load(case.space, [])
    return TrainingTask(
        system=study.model,
        trial=study.trial({**study.first_trials()[0], **case.changes}),
        seed=0,
        steps=every * reports,
        report_steps=tuple(range(every, every * reports + 1, every)),
        directory=str(directory),
        metric=study.objective.metric,
        mode=study.objective.mode,
    )


def synthetic_sets(folder: Path, kernel_px: int) -> dict[str, str]:
    """Gaussian blobs on a grid of 20 x 20, and 40 held-out ones: a step takes as long on them as on rendered kernels."""
    axis, rng = np.linspace(-1, 1, 20), np.random.default_rng(0)
    x, y = np.meshgrid(axis, axis)
    places = {"train": np.stack([x.ravel(), y.ravel()], axis=1), "validation": rng.uniform(-1, 1, (40, 2))}
    pixel = np.arange(kernel_px) - (kernel_px - 1) / 2
    for name, at in places.items():
        width = 1 + np.hypot(*at.T)[:, None, None, None] + 0.1 * np.arange(3)[:, None, None]
        kernels = np.exp(-(pixel[:, None] ** 2 + pixel**2) / (2 * width**2))
        Path(folder, name).mkdir(parents=True)
        np.save(folder / name / "kernels.npy", (kernels / kernels.sum((2, 3), keepdims=True)).astype(np.float32))
        np.save(folder / name / "points.npy", np.column_stack([at, np.full(len(at), -1e4)]).astype(np.float32))
    return {name: str(folder / name) for name in places}


def all_gpus(arguments: argparse.Namespace) -> None:
    """One training with a worker for each GPU: NCCL (on a CPU two workers, gloo)."""
    workers = GPUS if GPUS > 1 else 2
    if GPUS == 1:
        print("one GPU: NCCL needs two")
        return
    case = CASES[0] if arguments.tiny else CASES[3]
    with tempfile.TemporaryDirectory() as folder:
        sets, rates = synthetic_sets(Path(folder, "sets"), case.kernel_px), {}
        for size in (1, workers):
            with ProcessPoolExecutor(size, mp_context=get_context("spawn")) as pool:
                jobs = [
                    pool.submit(rank, case, sets, folder, i, size, 2 if arguments.tiny else 50) for i in range(size)
                ]
                rates[size] = next(job.result() for job in jobs)
    print(f"\n| {case.name} | steps/s |\n|---|---:|")
    for size, rate in rates.items():
        print(f"| {size} worker{'s' * (size > 1)} | {rate:.1f} |")


def rank(case: Case, sets: dict[str, str], folder: str, index: int, size: int, every: int) -> float:
    """Steps per second of a worker's part."""
    device = f"cuda:{index}" if GPUS else "cpu"
    if GPUS:
        torch.cuda.set_device(index)
    if size > 1:
        store = f"file://{folder}/store"
        torch.distributed.init_process_group("nccl" if GPUS else "gloo", store, rank=index, world_size=size)
    learner, data = opened(case.space, tuple(sets.items()), device)
    task = task_of(case, Path(folder, f"{size}"), every, 3)
    with closing(train(task, learner, data, rank=index, world_size=size)) as reports:
        rates = [report.metrics.get("train/steps_per_second", 0.0) for report in reports]
    if size > 1:
        torch.distributed.destroy_process_group()
    return rates[-1]


def packs(arguments: argparse.Namespace) -> None:
    """Trials in one batched network (benchmarks/pack.py)."""
    from benchmarks.pack import measure  # which takes its training from here

    measure(argparse.Namespace(seconds=arguments.seconds, packs=(8, 32, 128) if GPUS else (2,)))


def tracing(arguments: argparse.Namespace) -> None:
    """Rays per second of DeepLens on either device, of as many as one pupil map has and of many maps' at once."""
    try:
        version("deeplens-core")
    except PackageNotFoundError:
        print("DeepLens is not installed: its tracing is not measured")
        return
    from deeplens_workers.geolens import Ray, load_lenses
    from deeplens_workers.lens_file import find_lens

    file = find_lens("cooke_triplet_50mm")
    print("\n| DeepLens, million rays/s | CPU, one thread | GPU |\n|---|---:|---:|")
    for count in (288,) if arguments.tiny else (288, 288 * 64, 288 * 4096):
        cells = []
        for device in dict.fromkeys(("cpu", DEVICE)):
            _, (lens, *_) = load_lenses(file.text, file.glasses)
            lens.to(torch.device(device))
            angle = torch.linspace(0, 6.28, count, device=device)
            origin = torch.stack([3 * angle.cos(), 3 * angle.sin(), torch.full_like(angle, -10.0)], dim=-1)
            direction = torch.tensor([0.0, 0.0, 1.0], device=device).expand(count, 3)
            rays = partial(Ray, origin, direction, 0.587, device=device)
            cells.append(count / 1e6 / traced(lens, rays, device))
        on_gpu = f"{cells[1]:.2f}" if GPUS else "-"
        print(f"| {count:,} at once | {cells[0]:.2f} | {on_gpu} |", flush=True)


def traced(lens: Any, rays: Callable[[], Any], device: str) -> float:
    """Seconds of tracing some rays to the sensor, the median of several times."""
    torch.set_num_threads(1)
    took = []
    with torch.inference_mode():
        for _ in range(6):
            began = time.perf_counter()
            lens.trace2sensor(rays())
            if device == "cuda":
                torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
    return median(took[1:])


PARTS: dict[str, tuple[Callable[[argparse.Namespace], None], float]] = {
    # name -> what it does, and its time limit in seconds; a new part takes a line
    "tests": (tests, 180.0),
    "trainings": (trainings, 160.0),
    "packs": (packs, 80.0),
    "all-gpus": (all_gpus, 60.0),
    "tracing": (tracing, 40.0),
}


def machine() -> None:
    """What there is, before anything can fail."""
    named = [torch.cuda.get_device_name(i) for i in range(GPUS)]
    print(f"{', '.join(named) or 'no GPU'}; {os.cpu_count()} CPUs, {platform.platform()}")
    packages = {}
    for name in ("torch", "ray", "numpy", "deeplens-core", "pytest"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    print(
        f"Python {platform.python_version()}, CUDA {torch.version.cuda}, "
        + ", ".join(f"{k} {v}" for k, v in packages.items())
    )
    print(f"bfloat16: {multiplies_bfloat16(torch.device(DEVICE))}", flush=True)


def main() -> None:
    options = Options(__doc__)
    options.add_size("--seconds", 3, 0, "of each measurement of trainings")
    options.add_size("--lanes", (1, 2, 4, 8), (1, 2, 1, 2), "trainings that share the device")
    options.add_argument("--only", choices=list(PARTS), action="append", help="parts, in this process")
    arguments = options.parse()
    if arguments.only:
        for name in arguments.only:
            PARTS[name][0](arguments)
        return
    machine()
    until, endings = time.monotonic() + WHOLE_S, {}
    for name, (_, limit) in PARTS.items():
        print(f"\n== {name}", flush=True)
        began = time.monotonic()
        ending = run([*sys.argv[1:], "--only", name], min(limit, until - began))
        endings[name] = (time.monotonic() - began, ending)
    print("\n| part | s | |\n|---|---:|---|")
    for name, (took, ending) in endings.items():
        print(f"| {name} | {took:.0f} | {ending} |")
    sys.exit(any(ending != "passed" for _, ending in endings.values()))


def run(options: list[str], limit: float) -> str:
    """How a part ends that has so many seconds."""
    # A group of its own, to end all that it has started.
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu", *options], start_new_session=True)
    try:
        code = process.wait(max(1.0, limit))
    except subprocess.TimeoutExpired:
        return f"took more than {limit:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return "passed" if code == 0 else f"exit code {code}"


if __name__ == "__main__":
    main()
