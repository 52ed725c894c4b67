"""Claim: on a GPU every network trains, several lanes share one, and a whole search runs there. Without one, all of it runs on
the CPU, as small as it goes.

First one training alone, in this process, on the CPU and on the GPU: steps per second and the most memory that torch took
there. Then lanes, each with its share of the GPU. `--search` runs searches of field, depth and focus as well: a preset, and
what is set of it.

    python -m benchmarks.gpu
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

from benchmarks._shared import Options, prepared, the_study
from benchmarks.train import LaneTraining
from search.machine import machine
from search.process import start_ray
from spaces.study import Study
from trainables.lanes.lanes import Lanes
from trainables.learner import Learner
from trainables.psf.trial import CvaePsfTrial
from trainables.training.loop import train
from trainables.training.step import multiplies_bfloat16
from trainables.training.task import TrainingTask

FULL = ("data.train_points=1000", "data.rays=1024", "data.held_out_rays=8192", "data.grid=[3, 3]")
CASES: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    # name -> hyperparameters beside the recommended ones, and changes of the data
    "mlp 512 x 4, batch 64": ({"network": "mlp", "hidden_dim": 512, "latent_dim": 128, "batch_size": 64}, ()),
    "basis 256 x 4, batch 256": ({"network": "basis", "batch_size": 256, "components": 128, "latent_dim": 16}, ()),
    "conv, 32 px, batch 16": ({"network": "conv"}, ()),
    "conv, 32 px, batch 256": ({"network": "conv", "batch_size": 256}, ()),
    "conv, 64 px, batch 16": ({"network": "conv"}, ("data.kernel_px=64",)),
    "conv, 64 px, batch 256": ({"network": "conv", "batch_size": 256}, ("data.kernel_px=64",)),
    "basis, 64 px, batch 256": (
        {"network": "basis", "batch_size": 256, "components": 128, "latent_dim": 16},
        ("data.kernel_px=64",),
    ),
}


def task_of(study: Study, changes: dict[str, object], steps: int, directory: Path) -> TrainingTask:
    """A training that reports after a tenth of its steps, which is not timed, and at its end."""
    trial = study.trial({**study.first_trials()[0], **changes})
    warm_up = steps // 10 + 1
    return TrainingTask(
        system=study.system.name,
        trial=trial,
        seed=0,
        steps=warm_up + steps,
        report_steps=(warm_up, warm_up + steps),
        directory=str(directory),
        metric=study.objective.metric,
        mode=study.objective.mode,
    )


def speed(
    learner: Learner[Any, Any, Any, Any], task: TrainingTask, sets: dict[str, str], device: str
) -> tuple[float, float]:
    """Steps per second after the first ones, and the most MiB that torch held on the device (on a CPU, 0)."""
    data = learner.open(sets, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with closing(train(task, learner, data)) as reports:
        *_, last = reports
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else 0.0
    return last.metrics["train/steps_per_second"], peak


def search(name: str, changes: list[str], gpus: float, cache: Path, folder: Path) -> None:
    """A search as a user makes it, whose finals are printed."""
    preset, *others = changes
    program = [sys.executable, str(Path(__file__).parents[1] / "search" / "run.py"), "--space", "vae_psf"]
    where = ["--preset", preset, "--name", name, "--out", str(folder), "--cache", str(cache.resolve())]
    settings = [f"resources.gpus_per_worker={gpus}", *others]
    began = time.perf_counter()
    subprocess.run([*program, *where, *(part for one in settings for part in ("--set", one))], check=True)
    print(f"search {name}: {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    options = Options(__doc__)
    options.add_size("--steps", 400, 4, "steps of each measurement on a GPU; a twentieth of them on the CPU")
    options.add_size("--lanes", (1, 4, 8), (1, 2, 1), "lanes that share the device")
    options.add_argument("--search", action="append", nargs="+", default=[], metavar="PRESET [KEY=VALUE ...]")
    options.add_argument("--out", type=Path, help="folder of the searches' runs")
    options.add_argument("--cache", type=Path, default=Path("results/cache"))
    options.add_argument("--compile", action="store_true", help="compile the networks of the trainings alone")
    options.add_argument("--only", choices=["alone", "lanes", "search"], action="append")
    arguments = options.parse()
    parts = arguments.only or ["alone", "lanes", "search"]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(
        f"{torch.cuda.get_device_name() if len(devices) > 1 else 'no GPU'}, {machine().cpus} CPUs, torch {torch.__version__}"
    )
    print(
        f"bfloat16: {', '.join(f'{device} {multiplies_bfloat16(torch.device(device))}' for device in devices)}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        start_ray(num_cpus=max(arguments.lanes) + machine().cpus, include_dashboard=False)
        if "alone" in parts:
            alone(arguments, devices, Path(folder))
        if "lanes" in parts:
            together(arguments, devices[-1], Path(folder))
        ray.shutdown()
        if "search" in parts:
            for number, changes in enumerate(arguments.search):
                out = arguments.out or Path(folder)
                search(f"{changes[0]}-{number}", changes, 0.25 if len(devices) > 1 else 0, arguments.cache, out)


def alone(arguments: argparse.Namespace, devices: list[str], folder: Path) -> None:
    """Each case alone in this process, on each device."""
    torch.set_num_threads(machine().cpus)
    gains = []
    print(f"{'alone, steps/s':28}{''.join(f'{device:>10}' for device in devices)}{'GPU MiB':>10}")
    for name, (changes, data) in CASES.items():
        study, source = the_study(arguments.tiny, *(() if arguments.tiny else FULL), *data, space="vae_psf")
        sets = prepared(study, source, arguments.cache, actors=machine().cpus)
        row, peak = [], 0.0
        for device in devices:
            steps = arguments.steps if device == "cuda" else max(4, arguments.steps // 20)
            smaller = {"batch_size": 16} if arguments.tiny else {}
            task = task_of(study, {**changes, **smaller}, steps, folder / f"{name}-{device}")
            task = replace(task, compile=arguments.compile)
            rate, peak = speed(study.system.make_learner(), task, sets, device)
            row.append(rate)
        print(f"{name:28}{''.join(f'{rate:10.1f}' for rate in row)}{peak:10.0f}", flush=True)
        gains.append(row[-1] / row[0])
    print(f"gpu_to_cpu={max(gains):.2f}")


def together(arguments: argparse.Namespace, device: str, folder: Path) -> None:
    """Lanes of one worker that share the device, all training at once."""
    study, source = the_study(arguments.tiny)
    trial = study.trial(study.first_trials()[1])
    assert isinstance(trial, CvaePsfTrial)
    sets = prepared(study, source, arguments.cache, actors=machine().cpus)
    training = LaneTraining(trial, sets, folder, max(60, 5 * arguments.steps))
    print(f"{'lanes of one worker':28}{'steps/s of all':>16}")
    rates = []
    for count in arguments.lanes:
        share = 1 / count if device == "cuda" else 0
        with Lanes(lanes=count, workers=1, cpus=1, gpus=share, storage=folder / f"{count}") as lanes:
            lanes.wait_ready()
            rates.append(training.measure(lanes, count))
            print(f"{count:<28}{rates[-1]:16.1f}", flush=True)
    print(f"lanes_gain={max(rates) / rates[0]:.2f}")


if __name__ == "__main__":
    main()
