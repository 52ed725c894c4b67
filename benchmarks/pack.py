"""Claim: on a GPU a pack of trials makes many times the steps of one; on a CPU it does not pay.

Trials of the default space as a search draws them, of unequal widths and rates, in one batched network beside one training alone; all have
document 000's layers and batch. A training's step counts once, whether it is batched or not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._shared import Options
from benchmarks.gpu import CASES, DEVICE, opened, synthetic_sets
from spaces.loading import load
from trainables.training import cuda_graphs
from trainables.training.batched import Batched
from trainables.training.cuda_graphs import StepGraph
from trainables.training.state import TrainingState
from trainables.training.step import Step

WARM_UP = {False: 3, True: cuda_graphs.WARM_UP + 1}
"""Steps before the clock, without and with graphs."""


def measure(arguments: argparse.Namespace) -> None:
    """A row for each number of trials."""
    case = CASES[0]
    with tempfile.TemporaryDirectory() as folder:
        learner, data = opened(case.space, tuple(synthetic_sets(Path(folder, "sets"), case.kernel_px).items()), DEVICE)
        print(f"\n| trials in a pack, {DEVICE} | graphs | steps/s of all | ms per step of the pack | MiB | gain |")
        print("|---:|---|---:|---:|---:|---:|")
        alone: dict[bool, float] = {}
        gains: list[float] = []
        for count in dict.fromkeys((1, *arguments.packs)):
            for graphs in (False, True) if DEVICE == "cuda" else (False,):
                if DEVICE == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                rate = count / (seconds := seconds_per_step(learner, data, count, graphs, arguments.seconds))
                gains.append(rate / alone.setdefault(graphs, rate))
                memory = torch.cuda.max_memory_allocated() // 2**20 if DEVICE == "cuda" else "-"
                kind = "with" if graphs else "without"
                print(
                    f"| {count} | {kind} | {rate:.1f} | {1000 * seconds:.3g} | {memory} | {gains[-1]:.2f} |", flush=True
                )
    print(f"pack_gain={gains[-1]:.2f}")


def seconds_per_step(learner: Any, data: Any, count: int, graphs: bool, seconds: float) -> float:
    """Of one training alone, or of so many together; gains are over one alone, with graphs or without as they are."""
    rng = np.random.default_rng(0)
    study = load(CASES[0].space, [])
    steps = []
    for seed in range(count):
        changes = {
            "hidden_dim": int(np.exp(rng.uniform(np.log(256), np.log(1024)))) if seed else 512,
            "latent_dim": int(np.exp(rng.uniform(np.log(64), np.log(256)))) if seed else 128,
            "fourier_bands": int(rng.integers(2, 11)) if seed else 10,
            "learning_rate": float(np.exp(rng.uniform(np.log(1e-5), np.log(1e-3)))),
        }
        trial = study.trial({**study.first_trials()[0], **changes})
        state = TrainingState(trial, partial(learner.build, trial, data), seed, torch.device(DEVICE))
        steps.append(Step(trial, learner, data, state))
    rates = [(step.trial.learning_rate, step.trial.kl_weight) for step in steps]
    graph = StepGraph([step.state for step in steps]) if graphs else None
    batched = Batched(steps, graph) if count > 1 else None
    steps[0].graph = graph

    def make(number: int) -> None:
        if batched is None:
            steps[0](number, *rates[0])
        else:
            batched([number] * count, rates)

    made = 0
    for _ in range(WARM_UP[graphs]):
        made += 1
        make(made)
    synchronise()
    began = time.perf_counter()
    while made == WARM_UP[graphs] or time.perf_counter() - began < seconds:
        made += 1
        make(made)
    synchronise()
    return (time.perf_counter() - began) / (made - WARM_UP[graphs])


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    options = Options(__doc__)
    options.add_size("--seconds", 5, 0, "of each measurement")
    options.add_size("--packs", (8, 32, 128) if DEVICE == "cuda" else (4, 8), (2,), "trials that train together")
    measure(options.parse())
