"""Training on a stream of fresh kernels: does any step wait for a renderer?

    python benchmarks/stream.py

Two lanes train the corrected CVAE of the Cooke triplet, side by side as in a search; first on the grid, then on a stream
that two renderers fill beside them. A step waits if taking in fresh kernels costs it more than a tenth of a grid step. The same
lanes without Ray Train: two tasks that call `train_trial`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # not this folder, where `search` is search.py

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import ray

from deeplens_workers.dataset import render_dataset
from deeplens_workers.stream import streaming
from search.process import start_ray
from spaces.loading import load
from spaces.study import Study

LANES = 2
WARM_UP = 50  # steps


def train(study: Study, data: dict[str, str], seed: int, steps: int, stream: bool) -> dict[str, Any]:
    """One trial; seconds of every step and of taking in fresh kernels after it."""
    import torch

    from trainables.training.loop import TrialTask, train_trial
    from trainables.training.work import load_data

    torch.set_num_threads(1)
    tensors, reader = load_data(data["train"], data["validation"], stream, "cpu")
    marks: list[tuple[float, float]] = []

    def timed(refresh: Callable[[int], None]) -> Callable[[int], None]:
        def call(drawn: int) -> None:
            began = time.perf_counter()
            refresh(drawn)
            marks.append((began, time.perf_counter()))

        return call

    errors: list[float] = []

    def report(step: int, metrics: dict[str, float], last: bool) -> bool:
        errors.append(metrics["val/prior_rel_l2"])
        return True

    trial: Any = study.trial(study.first_trials()[1])
    with tempfile.TemporaryDirectory() as directory:
        task = TrialTask(trial, seed, steps, (steps,), directory)
        train_trial(task, replace(tensors, refresh=timed(tensors.refresh)), report)
    began, ended = np.array(marks[WARM_UP:]).T
    return {
        "steps_per_second": (len(began) - 1) / (began[-1] - began[0]),
        "refreshing": ended - began,
        "drawn": trial.batch_size * steps,
        "fresh": reader.fresh if reader else 0,
        "error": errors[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--cache", type=Path, default=Path("results/cache"))
    arguments = parser.parse_args()
    study = load("cvae_psf", ["data.stream={}"])
    start_ray(num_cpus=2 * LANES, include_dashboard=False)
    rendered = render_dataset(study.data, study.seed, arguments.cache, actors=2)
    data = {"train": str(rendered.train.resolve()), "validation": str(rendered.validation.resolve())}

    def both(stream: bool) -> list[dict[str, Any]]:
        run = ray.remote(num_cpus=1)(train)
        lanes: list[dict[str, Any]] = ray.get(
            [run.remote(study, data, seed, arguments.steps, stream) for seed in range(LANES)]
        )
        return lanes

    runs = {"grid": both(stream=False)}
    with streaming(study.data, study.seed, actors=2) as actor:
        began, before = time.perf_counter(), ray.get(actor.state.remote()).arrived
        runs["stream"] = both(stream=True)
        rate = (ray.get(actor.state.remote()).arrived - before) / (time.perf_counter() - began)
    ray.shutdown()

    assert study.data.stream is not None
    print(f"{'':8}{'steps/s per lane':>18}{'rel. L2 off the grid':>22}{'uses of a kernel':>18}")
    for name, lanes in runs.items():
        speed, error = (float(np.mean([lane[key] for lane in lanes])) for key in ("steps_per_second", "error"))
        uses = np.mean([lane["drawn"] / lane["fresh"] if lane["fresh"] else np.nan for lane in lanes])
        print(f"{name:8}{speed:18.1f}{error:22.4f}{uses:18.1f}")
    refreshing = np.concatenate([lane["refreshing"] for lane in runs["stream"]])
    grid_step = 1 / np.mean([lane["steps_per_second"] for lane in runs["grid"]])
    print(
        f"fresh kernels taken in: {1e3 * refreshing.mean():.2f} ms per step on average, 99 % below "
        f"{1e3 * np.quantile(refreshing, 0.99):.1f} ms, longest {1e3 * refreshing.max():.1f} ms, of {1e3 * grid_step:.1f} ms"
    )
    print(f"renderers: {rate:.2f} chunks/s; uses asked for: {study.data.stream.reuse}")
    print(f"waited={(refreshing > 0.1 * grid_step).mean():.4f}")


if __name__ == "__main__":
    main()
