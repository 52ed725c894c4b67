"""The Tune trial: a thin function that hands its configuration to a lane and forwards the lane's reports."""

from __future__ import annotations

import uuid
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle

from trainables.board import BOARD, Assignment, Report

# Bookkeeping only: the lanes' workers hold the CPUs that train. Tune needs a request above zero.
TRIAL_CPUS = 0.01


def run_trial(config: dict[str, Any]) -> None:
    """Function trainable. `config` = {number, params, payload}; each report carries step, seconds, lane and metrics.

    When Tune stops the trial, `tune.report` raises SystemExit here: the lane is told in `finally`.
    """
    board = ray.get_actor(BOARD)
    attempt = uuid.uuid4().hex
    try:
        ray.get(board.submit.remote(Assignment(attempt, config["number"], config["payload"])))
        while True:
            report: Report = ray.get(board.next_report.remote(attempt))
            progress = {"step": report.step, "seconds": report.seconds, "lane": report.lane, "failure": report.failure}
            tune.report({**progress, **report.metrics})
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
