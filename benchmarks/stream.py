"""Training on a stream of fresh kernels: does any step wait for a renderer, and what is a kernel worth that is turned?

    python -m benchmarks.stream

Two lanes train on the Cooke triplet, side by side as in a search; first on a set that stays, then on a stream that two
renderers fill beside them: the corrected CVAE of the field, then the network of field, depth and focus that steps fastest. A
step waits if taking in fresh kernels costs it more than a tenth of a step without. The same lanes without Ray Train: two Ray
tasks that iterate over `train`.

Then kernels at random positions in field, depth and focus: how many a core renders on the sensor and on one meridian, and the
error of the same network after as many steps on so many of the one and, turned anew at every draw, of the other.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks._shared import Options, prepared, the_study
from deeplens_workers.cache import cpu_seconds
from deeplens_workers.lens_file import LensFile
from deeplens_workers.psf_data import PsfData
from search.process import start_ray
from spaces.study import Study
from trainables.psf.data import Refresher

LANES = 2
WARM_UP = 50  # steps
MLP = {
    "network": "mlp",
    "hidden_dim": 512,
    "num_layers": 4,
    "batch_size": 64,
    "recon_scale": 1e3,
    "learning_rate": 2e-3,
}
TINY_SIZES = ("data.grid=[3, 3]", "data.rays=64", "data.held_out_rays=512", "data.validation_points=3")
TINY_STREAM = "{kernels: 512, reuse: 2}"


class Timed:
    """Passes `refresh` on to what keeps the data fresh, if there is something, and marks when each began and ended."""

    def __init__(self, fresh: Refresher | None) -> None:
        self._fresh = fresh
        self.marks: list[tuple[float, float]] = []

    def refresh(self, drawn: int) -> None:
        began = time.perf_counter()
        if self._fresh is not None:
            self._fresh.refresh(drawn)
        self.marks.append((began, time.perf_counter()))

    def fresh_share(self) -> None:
        return None


def training(
    study: Study, sets: dict[str, str], seed: int, steps: int, changes: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The trial that a space gives beside its recommended one; seconds of every step and of taking in fresh kernels after it."""
    import torch

    from trainables.psf.learner import CvaePsfLearner
    from trainables.training.loop import train
    from trainables.training.task import TrainingTask

    torch.set_num_threads(1)
    learner, objective = CvaePsfLearner(), study.objective
    data = learner.open(sets)
    reader: Any = data.fresh
    timed = Timed(reader)
    trial: Any = study.trial(study.first_trials()[1] | (changes or {}))
    with tempfile.TemporaryDirectory() as directory:
        task = TrainingTask(
            study.model, trial, seed, steps, (steps,), directory, metric=objective.metric, mode=objective.mode
        )
        (report,) = train(task, learner, replace(data, fresh=timed))
    began, ended = np.array(timed.marks[WARM_UP:]).T
    return {
        "steps_per_second": (len(began) - 1) / (began[-1] - began[0]),
        "refreshing": ended - began,
        "drawn": trial.batch_size * steps,
        "fresh": reader.fresh if reader else 0,
        "error": report.metrics[objective.metric],
    }


def main() -> None:
    options = Options(__doc__)
    options.add_size("--steps", 1500, 2 * WARM_UP, "steps of each lane")
    options.add_size("--points", (500, 2000, 4000), (64, 64, 64), "kernels to train on, on the sensor and turned")
    options.add_size("--turned-steps", 1500, 2 * WARM_UP, "steps of a training on them")
    options.add_argument("--only", choices=["cvae_psf", "vae_psf", "turned"], action="append")
    options.add_argument("--cache", type=Path, default=Path("results/cache"))
    arguments = options.parse()
    start_ray(num_cpus=2 * LANES, include_dashboard=False)
    parts = arguments.only or ["cvae_psf", "vae_psf", "turned"]
    waited = [streamed(space, arguments) for space in parts if space != "turned"]
    if "turned" in parts:
        turned(arguments)
    ray.shutdown()
    print(f"waited={max(waited, default=math.nan):.4f}")


def streamed(space: str, arguments: argparse.Namespace) -> float:
    """Two lanes of a space without and with its stream; the share of the stream's steps that waited."""
    stream = TINY_STREAM if arguments.tiny else "{}"
    still, lens = the_study(arguments.tiny, space=space)
    study, _ = the_study(arguments.tiny, f"data.stream={stream}", space=space)
    data = study.data
    assert isinstance(data, PsfData)
    assert data.stream is not None
    assert isinstance(lens, LensFile)
    sets = prepared(study, lens, arguments.cache, actors=2)

    def both(sets: dict[str, str]) -> list[dict[str, Any]]:
        run = ray.remote(num_cpus=1)(training)
        lanes: list[dict[str, Any]] = ray.get([run.remote(study, sets, seed, arguments.steps) for seed in range(LANES)])
        return lanes

    runs = {"still": both(prepared(still, lens, arguments.cache, actors=2))}
    with study.system.make_preparation().supply(data, lens, study.seed, actors=2) as supply:
        actor = ray.get_actor(supply.sets["stream"])
        began, before = time.perf_counter(), ray.get(actor.state.remote()).arrived
        runs["stream"] = both({**sets, **supply.sets})
        rate = (ray.get(actor.state.remote()).arrived - before) / (time.perf_counter() - began)

    print(f"{space:8}{'steps/s per lane':>18}{'rel. L2 off the grid':>22}{'uses of a kernel':>18}")
    for name, lanes in runs.items():
        speed, error = (float(np.mean([lane[key] for lane in lanes])) for key in ("steps_per_second", "error"))
        uses = np.mean([lane["drawn"] / lane["fresh"] if lane["fresh"] else np.nan for lane in lanes])
        print(f"{name:8}{speed:18.1f}{error:22.4f}{uses:18.1f}")
    refreshing = np.concatenate([lane["refreshing"] for lane in runs["stream"]])
    grid_step = 1 / np.mean([lane["steps_per_second"] for lane in runs["still"]])
    print(
        f"fresh kernels taken in: {1e3 * refreshing.mean():.2f} ms per step on average, 99 % below "
        f"{1e3 * np.quantile(refreshing, 0.99):.1f} ms, longest {1e3 * refreshing.max():.1f} ms, of {1e3 * grid_step:.1f} ms"
    )
    print(f"renderers: {rate:.2f} chunks/s; uses asked for: {data.stream.reuse}")
    print(f"stream_to_grid={np.mean([lane['steps_per_second'] for lane in runs['stream']]) * grid_step:.2f}")
    waits = float((refreshing > 0.1 * grid_step).mean())
    print(f"steps that waited: {waits:.4f}", flush=True)
    return waits


def turned(arguments: argparse.Namespace) -> None:
    """Kernels per second of a core on the sensor and on one meridian, and what as many of either teach a network."""
    rates, errors = {}, {}
    for frame in ("sensor", "meridional"):
        for count in arguments.points:
            changes = (f"data.frame={frame}", f"data.train_points={count}", "data.test_points=1")
            study, lens = the_study(False, *changes, *(TINY_SIZES if arguments.tiny else ()), space="vae_psf")
            sets = prepared(study, lens, arguments.cache, actors=2)
            seconds = cpu_seconds(Path(sets["train"]))
            rates[frame] = count / seconds if seconds else math.nan
            run = ray.remote(num_cpus=1)(training)
            errors[frame, count] = ray.get(run.remote(study, sets, 0, arguments.turned_steps, MLP))["error"]
    print(
        f"{'kernels':12}{'per s of a core':>16}{''.join(f'{f"error of {count:,}":>18}' for count in arguments.points)}"
    )
    for frame, rate in rates.items():
        print(f"{frame:12}{rate:16.1f}{''.join(f'{errors[frame, count]:18.4f}' for count in arguments.points)}")
    most = arguments.points[-1]
    print(f"kernels_per_second={rates['meridional']:.1f} before={rates['sensor']:.1f}")
    print(f"turned_to_independent={errors['meridional', most] / errors['sensor', most]:.3f}", flush=True)


if __name__ == "__main__":
    main()
