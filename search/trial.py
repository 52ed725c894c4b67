"""The Tune trial: a thin function that hands its configuration to a lane and forwards the lane's reports."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle

from results.run_directory import RunDirectory
from spaces.seeding import named_seed
from spaces.study import Budget, Scalar, Study
from trainables.lanes.board import BOARD, Assignment, Report
from trainables.training.task import TrainingTask


@dataclass(frozen=True)
class TrialSettings:
    """What all trials of a search share: how to train a configuration, and where its files go.

    Paths are absolute; `sets` maps the data sets' names to their directories.
    """

    study: Study
    budget: Budget
    directory: RunDirectory
    sets: dict[str, str]

    def of_trial(self, number: int, params: dict[str, Scalar]) -> TrainingTask:
        """What a lane is asked to train for a trial."""
        seed = named_seed(self.study.seed, "trial", number)
        return self._task(params, seed, self.directory.trial(number), self.directory.events(number))

    def of_finalist(self, number: int, params: dict[str, Scalar], seed: int) -> TrainingTask:
        """The same with the finals' seed number `seed`, which all finalists share."""
        directory = self.directory.finalist(number, seed)
        events = self.directory.tensorboard / directory.name
        return self._task(params, named_seed(self.study.seed, "finalist", seed), directory, events)

    def _task(self, params: dict[str, Scalar], seed: int, directory: Path, events: Path) -> TrainingTask:
        return TrainingTask(
            system=self.study.model,
            trial=self.study.trial(params),
            seed=seed,
            steps=self.budget.steps,
            report_steps=tuple(self.budget.report_steps()),
            directory=str(directory),
            metric=self.study.objective.metric,
            mode=self.study.objective.mode,
            sets=self.sets,
            compile=self.study.resources.compile,
            cuda_graphs=self.study.resources.cuda_graphs,
            events=str(events),
            params=params,
            picture_steps=tuple(self.budget.rungs()),
        )


def place() -> dict[str, float]:
    """What a trial's process asks Ray for: to be on the driver's node, the one that a search cannot lose. From one that is lost it
    would take the trial's retries along. It asks for no CPU: lanes may have all that are left.
    """
    here = ray.get_runtime_context().get_node_id()
    address = next(node["NodeManagerAddress"] for node in ray.nodes() if node["NodeID"] == here)
    return {f"node:{address}": 0.0001}  # of 1; Tune needs a request above zero


def run_trial(config: dict[str, Any], settings: TrialSettings) -> None:
    """Function trainable. `config` = {number, params}; each report carries attempt, step, seconds, lane, failure and metrics.

    When Tune stops the trial, `tune.report` raises SystemExit here: the lane is told in `finally`.
    """
    board = ray.get_actor(BOARD)
    attempt = uuid.uuid4().hex
    try:
        task = settings.of_trial(config["number"], config["params"])
        ray.get(board.submit.remote(Assignment(attempt, config["number"], task)))
        while True:
            report: Report = ray.get(board.next_report.remote(attempt))
            steps = [report.step]
            if report.last and report.failure is None:  # on a plateau: what it has reached stands for the reports left
                steps += [step for step in settings.budget.report_steps() if step > report.step]
            for step in steps:
                progress = {"attempt": attempt, "step": step, "seconds": report.seconds, "lane": report.lane}
                tune.report({**progress, "trained": report.step, "failure": report.failure, **report.metrics})
            if report.last:
                return
    finally:
        board.stop.remote(attempt)


class FreeLane(tune.Callback):  # type: ignore[misc]
    """When a trial's process died for good, the lane that still trains it must hear so."""

    def __init__(self, board: ActorHandle) -> None:
        self._board = board

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._board.stop_trial.remote(trial.config["number"])
