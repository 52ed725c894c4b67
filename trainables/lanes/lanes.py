"""The lanes of a search, as its driver sees them: started in the background, added and dropped as nodes come and go."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.lanes.board import BOARD, NO_LANE, Assignment, LaneBoard, Report
from trainables.lanes.lane import collective_backend, serve

logger = logging.getLogger(__name__)

# Worker groups restart this often per lane; beyond it the machine, not the trial, is at fault.
MAX_RESTARTS = 20
PROCESS_GROUP_TIMEOUT = 1800
# How often it is looked whether lanes are ready, and whether there is room for another (s).
POLL = 2.0
# How long Ray may take to say that there is a place; whole seconds, Ray drops the rest.
PROBE = 3
# How long a lane may wait for its place in the cluster, at first and after its node has left (s).
START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
# What a worker asks for may be a fraction, which a float misses.
ROUNDING = 1e-6


class LanesLost(RuntimeError):
    """Not one lane is left, so nothing can be trained."""


class Lanes:
    """The lanes of one search, closed with it (a context manager).

    A lane whose workers cannot be placed within the time of `START_TIMEOUT`, at first or after its node has left, is
    dropped; another lane goes on with what it trained. It is started again once a whole lane has room, and so are more.

    Args:
        lanes: to start with.
        workers, cpus, gpus: workers per lane, and what one worker gets.
        storage: directory where Ray Train keeps its own files.
        most: as many lanes as there may ever be; `lanes` unless given.
        spare_cpus: CPUs of the cluster that are not for lanes.
        logs: existing directory of the files `lane-N.log`; none are written without it.
        told: called, from any thread, with a line for each lane that is lost or added later, and their number then.
        poll: seconds between two looks at the cluster.
    """

    def __init__(
        self,
        *,
        lanes: int,
        workers: int,
        cpus: int,
        gpus: float,
        storage: Path,
        most: int | None = None,
        spare_cpus: int = 0,
        logs: Path | None = None,
        told: Callable[[str, int], None] = lambda line, lanes: None,
        poll: float = POLL,
    ) -> None:
        self._first = lanes
        self._workers, self._cpus, self._gpus = workers, cpus, gpus
        self._each = {"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {})
        self._storage = storage.resolve()
        self.most = lanes if most is None else most
        self._spare_cpus = spare_cpus
        self._logs = logs.resolve() if logs is not None else None
        self._told = told
        self._poll = poll
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._alive: set[str] = set()
        """Lanes that are ready or being started."""
        self._ready: set[str] = set()
        self._losing: set[str] = set()
        """Those of them that the board is being told the loss of."""
        self._broken: set[str] = set()
        """Lanes that ended for another reason than their place: they are not started again."""
        self._reason = ""
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="lanes", daemon=True)
        self.board: ActorHandle

    def __enter__(self) -> Lanes:
        # Waiting calls (reports, takes) are coroutines: many may be in flight, none holds a thread. Its node is the
        # driver's, the one that a search cannot lose.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"name": BOARD, "num_cpus": 0, "max_concurrency": 10_000, "scheduling_strategy": here}
        self.board = ray.remote(LaneBoard).options(**options).remote()
        for _ in range(self._first):
            self._start()
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._lock:  # none is started after this
            self._closing.set()
        # Ray's native calls make a SystemError of what a signal's handler raises in them.
        if kind is not None and (not issubclass(kind, Exception) or issubclass(kind, SystemError)):
            self._end_controllers()  # interrupted: no waiting for reports, Ray's own shutdown ends the workers
            return
        ray.get(self.board.close.remote())
        for thread in self._threads:
            if thread.name in self._ready:
                thread.join(timeout=30)
        if any(thread.is_alive() for thread in self._threads):  # not placed yet: nobody there to hear the board
            self._end_controllers()
        self._watcher.join(timeout=30)
        ray.kill(self.board)

    def _end_controllers(self) -> None:
        """End the threads' trainers: were they still calling Ray while it shuts down, the exit code would be 1."""
        from ray._private import state, worker

        # Not ray.util.state.list_actors: it asks the dashboard, which need not run.
        mine = ray.get_runtime_context().get_job_id()
        for identity, actor in state.actors().items():
            if (actor["ActorClassName"], actor["State"], actor["JobID"]) == ("TrainController", "ALIVE", mine):
                worker.global_worker.core_worker.kill_actor(ray.ActorID(bytes.fromhex(identity)), True)
        for thread in [*self._threads, self._watcher]:
            thread.join(timeout=10)

    @property
    def count(self) -> int:
        """How many lanes train now, or wait to: those that are ready."""
        with self._lock:
            return len(self._ready)

    def wait_ready(self) -> None:
        """Return once every lane has asked for work or is lost.

        Raises:
            LanesLost: none has.
        """
        ray.get(self.board.wait_ready.remote())
        self._note_ready()
        if not self.count:
            raise LanesLost(self._reason)

    def train(self, assignments: Sequence[Assignment], reported: Callable[[Assignment, Report], None]) -> None:
        """Train assignments without Tune: each to its end, as many at a time as there are lanes.

        Args:
            reported: called with every report; of the last one of each assignment `last` is true.

        Raises:
            LanesLost: no lane is left.
        """
        ray.get([self.board.submit.remote(assignment) for assignment in assignments])
        waiting = {self.board.next_report.remote(one.attempt): one for one in assignments}
        while waiting:
            (reference,), _ = ray.wait(list(waiting), num_returns=1)
            assignment, report = waiting.pop(reference), ray.get(reference)
            if report.failure is not None and report.failure.startswith(NO_LANE):
                raise LanesLost(report.failure)
            reported(assignment, report)
            if not report.last:
                waiting[self.board.next_report.remote(assignment.attempt)] = assignment

    def _start(self) -> str | None:
        """Start the first lane that there is not; its name."""
        with self._lock:
            if self._closing.is_set():
                return None
            names = (f"lane-{index}" for index in range(self.most))
            name = next(name for name in names if name not in self._alive | self._broken)
            self._alive.add(name)
            ray.get(self.board.add_lane.remote(name))
            thread = threading.Thread(target=self._run, args=(name,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
            return name

    def _run(self, name: str) -> None:
        from ray.train import WorkerGroupError

        for left in reversed(range(MAX_RESTARTS + 1)):
            try:
                self._trainer(name).fit()
                return
            except Exception as error:
                if self._closing.is_set():
                    return
                if not _found_no_place(error):  # that takes no traceback
                    logger.exception("%s", name)
                reason = self._why(name, error)  # before the room is looked at: that takes some for a moment
                # Trials that end in errors may use up the restarts of a lane that works.
                broken = not left or (isinstance(error, WorkerGroupError) and name not in self._ready)
                if not broken and self._has_room(len(self._alive)):
                    continue  # its processes died before they had begun, or there is room just now
                self._lose(name, reason, broken)
                return

    def _trainer(self, name: str) -> Any:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        return TorchTrainer(
            serve,
            train_loop_config={
                "lane": name,
                "threads": self._cpus,
                "namespace": ray.get_runtime_context().namespace,
                "log": str(self._logs / f"{name}.log") if self._logs is not None else None,
            },
            scaling_config=ScalingConfig(
                num_workers=self._workers, use_gpu=self._gpus > 0, resources_per_worker=self._each
            ),
            run_config=RunConfig(
                name=name,
                storage_path=str(self._storage),
                # A group that found no place is a failure of the controller's, after which Ray Train tries for ever.
                failure_config=FailureConfig(max_failures=MAX_RESTARTS, controller_failure_limit=0),
            ),
            torch_config=TorchConfig(
                backend=collective_backend(self._workers, self._gpus), timeout_s=PROCESS_GROUP_TIMEOUT
            ),
        )

    def _why(self, name: str, error: Exception) -> str:
        """In a line, why a lane ended."""
        if _found_no_place(error):
            from ray.train.v2._internal.constants import DEFAULT_WORKER_GROUP_START_TIMEOUT_S

            seconds = float(os.environ.get(START_TIMEOUT, DEFAULT_WORKER_GROUP_START_TIMEOUT_S))
            free = ray.available_resources()
            there = _resources({kind: free.get(kind, 0) for kind in self._each})
            wanted = f"asks for {self._workers} x {_resources(self._each)}"
            return f"{name}: could not be placed in {seconds:g} s: {wanted}, the cluster has free {there}"
        return f"{name} is lost: {(str(error).strip() or type(error).__name__).splitlines()[-1]}"

    def _lose(self, name: str, reason: str, broken: bool) -> None:
        logger.warning(reason)
        with self._lock:
            self._reason = reason
            self._ready.discard(name)
            self._losing.add(name)
            if broken:
                self._broken.add(name)
        ray.get(self.board.lane_lost.remote(name, reason))
        with self._lock:  # not earlier: the board must not hear of a new lane of that name before
            self._alive.discard(name)
            self._losing.discard(name)
        self._told(f"warning: {reason}", self.count)

    def _watch(self) -> None:
        """Notes which lanes are ready, and starts those that there is room for."""
        late: set[str | None] = set()
        while not self._closing.wait(self._poll):
            try:
                for name in self._note_ready() & late:
                    late.discard(name)
                    logger.info("%s is ready", name)
                    self._told(f"{name} joins: there is room for it", self.count)
                lanes = len(self._alive)
                if lanes < self.most - len(self._broken) and self._is_free() and self._has_room(lanes + 1):
                    late.add(self._start())
            except Exception:
                if not self._closing.is_set():
                    logger.exception("looking for room for lanes")

    def _note_ready(self) -> set[str]:
        ready: set[str] = ray.get(self.board.ready_lanes.remote())
        with self._lock:
            self._ready = (ready & self._alive) - self._losing
        return ready

    def _is_free(self) -> bool:
        """Whether nobody has what a lane takes. A request that must wait would make an autoscaler add nodes."""
        free = ray.available_resources()
        return all(free.get(kind, 0) + ROUNDING >= self._workers * amount for kind, amount in self._each.items())

    def _has_room(self, lanes: int) -> bool:
        """Whether the nodes hold so many lanes beside the spare CPUs, and the last of them now."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if places(nodes, self._each, self._workers, self._spare_cpus) < lanes:
            return False
        # What is free may lie in pieces on several nodes: Ray itself says whether it serves.
        group = placement_group([self._each] * self._workers)
        try:
            return bool(group.wait(PROBE))
        finally:
            remove_placement_group(group)


def _found_no_place(error: Exception) -> bool:
    from ray.train import ControllerError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)


def places(nodes: Iterable[Mapping[str, float]], each: Mapping[str, float], workers: int, spare_cpus: float) -> int:
    """How many lanes of so many workers nodes hold in all, each worker on one node, beside the spare CPUs."""
    nodes = list(nodes)
    fit = sum(int(min((node.get(kind, 0) + ROUNDING) / amount for kind, amount in each.items())) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes) - spare_cpus
    return min(fit // workers, int((cpus + ROUNDING) / (workers * each["CPU"])))


def _resources(amounts: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{kind}: {amount:g}" for kind, amount in amounts.items()) + "}"


def ray_environment() -> dict[str, str]:
    """Environment that Ray's own processes need before `ray.init` for lanes to behave."""
    return {
        # Workers stay in the driver's directory: relative paths mean the same everywhere.
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        # How soon a dead worker is noticed, in seconds.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": os.environ.get("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1"),
        # How long the trial of a lane whose node has left waits before another lane goes on with it.
        START_TIMEOUT: os.environ.get(START_TIMEOUT, "30"),
        # One process and 5 CPU seconds less per lane; checkpoints are seconds apart, so a lost node costs little anyway.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    }
