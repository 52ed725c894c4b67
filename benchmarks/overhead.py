"""Claim: a trial through a warm lane costs far less than one TorchTrainer per trial, the pattern Ray documents.

Both run Ray Tune with trials whose training is trivial (two reports, no arithmetic), one at a time, in one Ray session.
The marginal cost is the time between two trials' ends, over the trials between them, so start-up does not count; it is
printed apart.

    python -m benchmarks.overhead
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import ray
import ray.train
import ray.train.torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from benchmarks._shared import Options
from results.run_directory import RunDirectory
from search.observer import Observer
from search.process import start_ray
from search.scheduler import EarlyStopping
from search.searcher import StudySearcher, open_ledger
from search.trial import TrialSettings, place, run_trial
from spaces.loading import load
from spaces.study import Scalar
from trainables.lanes.lanes import Lanes
from trainables.lanes.task import Progress, Task, Worker

METRIC = "val/prior_rel_l2"
STEPS = (1, 2)


@dataclass(frozen=True)
class Trivial:
    """A task without arithmetic."""

    metric: str = METRIC

    def reports(self, worker: Worker) -> Generator[Progress]:
        for step in STEPS:
            yield Progress(step, {METRIC: 1.0 / step}, step == STEPS[-1])


class TrivialSettings(TrialSettings):
    """Trials that are trivial tasks."""

    def of_trial(self, number: int, params: dict[str, Scalar]) -> Task:  # type: ignore[override]
        return Trivial()


def trivial_loop(config: dict[str, Any]) -> None:
    for step in STEPS:
        ray.train.report({METRIC: 1.0 / step, "step": step})


def train_driver(config: dict[str, Any]) -> None:
    """Ray's documented way to tune a Train job: each trial launches a trainer of its own."""
    trainer = ray.train.torch.TorchTrainer(
        trivial_loop,
        scaling_config=ray.train.ScalingConfig(num_workers=1),
        run_config=ray.train.RunConfig(
            name=f"trial-{ray.tune.get_context().get_trial_id()}",
            storage_path=config["storage"],
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


class Ends(tune.Callback):  # type: ignore[misc]
    """Seconds from its making to each trial's end."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.seconds: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def through_lanes(trials: int, root: Path) -> list[float]:
    """Seconds to each trial's end in a Tune run of so many trials, with the project's searcher, SQLite study and ASHA."""
    space = load("cvae_psf")
    sizes = {"steps": STEPS[-1], "grace_steps": STEPS[-1], "trials": trials}
    budget = space.budget["quick"].model_copy(update=sizes)
    ledger = open_ledger(f"sqlite:///{root}/study.db", "overhead", space, budget)
    settings = TrivialSettings(space, budget, RunDirectory(root), sets={})
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, settings=settings), place()),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(ledger, space, STEPS[-1], Observer(), {}),
            scheduler=EarlyStopping(None, (METRIC,)),
            num_samples=trials,
            max_concurrent_trials=1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name="lanes", storage_path=str(root), verbose=0, callbacks=[ends := Ends()]),
    )
    tuner.fit()
    assert [trial.state for trial in ledger.trials] == [optuna.trial.TrialState.COMPLETE] * trials
    return ends.seconds


def trainer_per_trial(trials: int, root: Path) -> list[float]:
    """Seconds to each trial's end in a Tune run of so many trials that start a TorchTrainer each."""
    tuner = tune.Tuner(
        tune.with_resources(train_driver, place()),
        param_space={"storage": str(root / "train"), "x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=1),
        run_config=tune.RunConfig(name="trainers", storage_path=str(root), verbose=0, callbacks=[ends := Ends()]),
    )
    results = tuner.fit()
    assert not results.errors
    return ends.seconds


def slope(measure: Callable[[int, Path], list[float]], trials: tuple[int, int], root: Path) -> tuple[float, float]:
    """Marginal seconds per trial between two trials' ends, and the seconds to the first of them less its trials (start-up)."""
    few, many = trials
    ends = measure(many, root)
    marginal = (ends[many - 1] - ends[few - 1]) / (many - few)
    return marginal, ends[few - 1] - few * marginal


def main() -> None:
    options = Options(__doc__)
    options.add_size("--lane-trials", (10, 110), (2, 14), "trials of a lane between whose ends time is measured")
    options.add_size("--trainer-trials", (1, 4), (1, 2), "the same for trials with a trainer each")
    arguments = options.parse()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    start_ray(num_cpus=4, include_dashboard=False)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.perf_counter()
        with Lanes(lanes=1, workers=1, cpus=1, gpus=0, storage=root / "train") as lanes:
            lanes.wait_ready()
            start = time.perf_counter() - began
            ours, ours_start = slope(through_lanes, arguments.lane_trials, root)
        theirs, theirs_start = slope(trainer_per_trial, arguments.trainer_trials, root)
    ray.shutdown()
    print(f"{'':24}{'start-up s':>12}{'s per trial':>14}")
    print(f"{'warm lane':24}{start + ours_start:12.1f}{ours:14.3f}")
    print(f"{'TorchTrainer per trial':24}{theirs_start:12.1f}{theirs:14.3f}")
    print(f"ratio={theirs / ours:.3g}")


if __name__ == "__main__":
    main()
