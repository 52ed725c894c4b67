"""Lanes: long-lived Ray Train worker groups that train one trial after another.

Starting a TorchTrainer costs 20 s and more (a controller, W workers, each importing torch); a trial of this project
may last two. So a lane is started once, `serve` runs on its W workers until the search ends, and trials come to it
through the board. One path serves 1 worker and W (DDP), CPU and GPU, one node and many.
"""

from __future__ import annotations

import logging
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from trainables.board import BOARD, Assignment, LaneBoard, Report

logger = logging.getLogger(__name__)

# Worker groups restart this often per lane; beyond it the machine, not the trial, is at fault.
MAX_RESTARTS = 20
# An idle lane's workers meet this often (s), well inside the process group's time-out.
HEARTBEAT = 60.0
PROCESS_GROUP_TIMEOUT = 1800

ReportFunction = Callable[[int, dict[str, float], bool], bool]


class TrialFailure(Exception):
    """The trial cannot succeed and every rank knows it (e.g. a non-finite loss): no retry, the lane goes on."""


class LanesLost(RuntimeError):
    """Not one lane could start, so nothing can be trained."""


@dataclass(frozen=True)
class Worker:
    """Where a piece of work runs: its place in the lane's process group."""

    rank: int
    world_size: int
    device: str


# Trains one assignment: (payload, report, worker). Called on every rank; `report(step, metrics, last)` -> go on?
Work = Callable[[dict[str, Any], ReportFunction, Worker], None]


def training() -> Work:
    """The work of a search's lanes. Called on the lanes' workers, so that what it imports is loaded there, once."""
    from trainables.work import train_assignment

    return train_assignment


def serve(config: dict[str, Any]) -> None:
    """Ray Train's `train_loop_per_worker` of a lane: take, train, report, until the board closes."""
    import torch
    import torch.distributed as dist
    from ray.train import get_context
    from ray.train.torch import get_device

    context = get_context()
    device = get_device()
    assert not isinstance(device, list), "one device per worker"
    worker = Worker(context.get_world_rank(), context.get_world_size(), str(device))
    torch.set_num_threads(config["threads"])
    board = ray.get_actor(BOARD, namespace=config["namespace"])
    work: Work = config["load_work"]()
    lane: str = config["lane"]

    def agreed(value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if worker.world_size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=device if device.type == "cuda" else None)
        return box[0]

    def ask(call: Callable[[], ray.ObjectRef]) -> Any:
        return agreed(ray.get(call()) if worker.rank == 0 else None)

    while True:
        taken = ask(lambda: board.take.remote(lane, HEARTBEAT))
        if taken == "close":
            return
        if taken == "wait":
            continue
        assert isinstance(taken, Assignment)
        attempt = taken.attempt

        def report(step: int, metrics: dict[str, float], last: bool, attempt: str = attempt) -> bool:
            return bool(ask(lambda: board.report.remote(attempt, step, metrics, last)))

        try:
            work(taken.payload, report, worker)
        except TrialFailure as failure:
            ask(lambda attempt=attempt, reason=str(failure): board.fail.remote(attempt, reason))  # type: ignore[misc]
        except Exception as error:
            logger.exception("trial %d: attempt %s", taken.trial, attempt)
            ray.get(board.crashing.remote(attempt, "".join(traceback.format_exception_only(error)).strip()))
            if worker.world_size > 1:
                raise  # the ranks no longer agree: Ray Train restarts the group
            continue  # the board gives it to this lane again, from its checkpoint, until it has failed too often
        ask(lambda: board.release.remote(lane))


class Lanes:
    """The lanes of one search, started in the background and closed with it (a context manager).

    Args:
        load_work: returns the function that trains an assignment; called once on every worker, before its first trial.
        lanes, workers, cpus, gpus: number of lanes, workers per lane, and what one worker gets.
        storage: directory where Ray Train keeps its own files.
    """

    def __init__(
        self, load_work: Callable[[], Work], *, lanes: int, workers: int, cpus: int, gpus: float, storage: Path
    ) -> None:
        self._load_work = load_work
        self._shape = (workers, cpus, gpus)
        self._storage = storage.resolve()
        self.names = [f"lane-{index}" for index in range(lanes)]
        self._threads: list[threading.Thread] = []
        self._closing = False
        self.board: ActorHandle

    def __enter__(self) -> Lanes:
        # Waiting calls (reports, takes) are coroutines: many may be in flight, none holds a thread.
        self.board = (
            ray.remote(LaneBoard).options(name=BOARD, num_cpus=0, max_concurrency=10_000).remote(len(self.names))
        )
        for name in self.names:
            thread = threading.Thread(target=self._run, args=(name,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._closing = True
        if kind is not None and not issubclass(kind, Exception):
            self._end_controllers()  # interrupted: no waiting for reports, Ray's own shutdown ends the workers
            return
        ray.get(self.board.close.remote())
        for thread in self._threads:
            thread.join(timeout=30)
        ray.kill(self.board)

    def _end_controllers(self) -> None:
        """End the threads' trainers. Were they still calling Ray while it shuts down, it would end this process with code 1."""
        from ray._private import state, worker

        mine = ray.get_runtime_context().get_job_id()
        for identity, actor in state.actors().items():
            if (actor["ActorClassName"], actor["State"], actor["JobID"]) == ("TrainController", "ALIVE", mine):
                worker.global_worker.core_worker.kill_actor(ray.ActorID(bytes.fromhex(identity)), True)
        for thread in self._threads:
            thread.join(timeout=10)

    def wait_ready(self) -> dict[str, str]:
        """Return once every lane has asked for work; lanes that could not start are returned with the reason.

        Raises:
            LanesLost: none could.
        """
        lost: dict[str, str] = ray.get(self.board.wait_ready.remote())
        if len(lost) == len(self.names):
            raise LanesLost("; ".join(sorted(set(lost.values()))))
        return lost

    def train(self, assignments: Sequence[Assignment], reported: Callable[[Assignment, Report], None]) -> None:
        """Train assignments without Tune: each to its end, as many at a time as there are lanes.

        Args:
            reported: called with every report; of the last one of each assignment `last` is true.
        """
        ray.get([self.board.submit.remote(assignment) for assignment in assignments])
        waiting = {self.board.next_report.remote(one.attempt): one for one in assignments}
        while waiting:
            (reference,), _ = ray.wait(list(waiting), num_returns=1)
            assignment, report = waiting.pop(reference), ray.get(reference)
            reported(assignment, report)
            if not report.last:
                waiting[self.board.next_report.remote(assignment.attempt)] = assignment

    def _run(self, name: str) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        workers, cpus, gpus = self._shape
        resources = {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
        try:
            trainer = TorchTrainer(
                serve,
                train_loop_config={
                    "lane": name,
                    "load_work": self._load_work,
                    "threads": cpus,
                    "namespace": ray.get_runtime_context().namespace,
                },
                scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
                run_config=RunConfig(
                    name=name, storage_path=str(self._storage), failure_config=FailureConfig(max_failures=MAX_RESTARTS)
                ),
                torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=PROCESS_GROUP_TIMEOUT),
            )
            trainer.fit()
        except Exception as error:
            if self._closing:
                return
            logger.exception("%s is lost", name)
            said = (str(error).strip() or type(error).__name__).splitlines()[-1]
            reason = f"{name} is lost: {said}"
            ray.get(self.board.lane_lost.remote(name, reason))


def ray_environment() -> dict[str, str]:
    """Environment that Ray's own processes need before `ray.init` for lanes to behave."""
    return {
        # Workers stay in the driver's directory: relative paths mean the same everywhere.
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        # How soon a dead worker is noticed, in seconds.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": os.environ.get("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1"),
        # One process and 5 CPU seconds less per lane; every report has a checkpoint, so a lost node costs little anyway.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    }
