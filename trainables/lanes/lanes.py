"""The lanes of a search, as its driver sees them: started in the background, added and dropped as nodes come and go."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.lanes.board import BOARD, HALTS, Assignment, LaneBoard, Report, lane_of, places_of
from trainables.lanes.lane import MEMORY, collective_backend, serve
from trainables.lanes.room import Room

if TYPE_CHECKING:
    from trainables.lanes.ray_internals import Trainer

logger = logging.getLogger(__name__)

# Workers restart this often per lane; beyond it the machine, not the trial, is at fault.
MAX_RESTARTS = 20
PROCESS_GROUP_TIMEOUT = 1800
# How often it is looked whether lanes are ready, and whether there is room for another (s).
POLL = 2.0
# Without any lane: how long room for one is waited for (s), before the search ends.
WAIT_FOR_ROOM = 600.0
# How long a lane may wait for its place in the cluster, at first and after its node has left (s), and Ray's default.
START_TIMEOUT, PLACED_IN = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", 60.0


class LanesLost(RuntimeError):
    """Nothing can be trained: not one lane is left, or the disk is full."""


class Lanes:
    """The lanes of one search, closed with it (a context manager).

    Where the driver's node is the only one, lanes of one worker are the workers of one trainer, which replaces each alone; any
    other lane has a trainer of its own.

    A lane whose workers cannot be placed within the time of `START_TIMEOUT`, at first or after its node has left, is
    dropped; another lane goes on with what it trained. It is started again once a whole lane has room, and so are more. With the
    last lane dropped everything waits for that, for up to `WAIT_FOR_ROOM`.

    Args:
        lanes: to start with.
        workers, cpus, gpus: workers per lane, and what one worker gets.
        storage: directory where Ray Train keeps its own files.
        places: trials that a lane of one worker trains at once.
        most: as many lanes as there may ever be; `lanes` unless given.
        spare_cpus: CPUs of the cluster that are not for lanes.
        imports: modules that workers import before they ask for work, so that the first trial need not.
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
        places: int = 1,
        most: int | None = None,
        spare_cpus: int = 0,
        imports: tuple[str, ...] = (),
        logs: Path | None = None,
        told: Callable[[str, int], None] = lambda line, lanes: None,
        poll: float = POLL,
    ) -> None:
        assert places == 1 or workers == 1
        self._first, self.places = lanes, places
        self._workers, self._cpus, self._gpus = workers, cpus, gpus
        self._room = Room({"CPU": float(cpus)} | ({"GPU": gpus} if gpus else {}), workers, spare_cpus)
        self._storage = storage.resolve()
        self.most = lanes if most is None else most
        self._imports = imports
        self._logs = logs.resolve() if logs is not None else None
        self._told = told
        self._poll = poll
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._trainers: list[Trainer] = []
        self._alive: set[str] = set()
        """Lanes that are ready or being started."""
        self._ready: set[str] = set()
        self._losing: set[str] = set()
        """Those of them that the board is being told the loss of."""
        self._broken: set[str] = set()
        """Lanes that ended for another reason than their place: they are not started again."""
        self._reason = ""
        self._hopeless = False
        """No lane is left, and none is waited for any more."""
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="lanes", daemon=True)
        self.board: ActorHandle

    def __enter__(self) -> Lanes:
        # Waiting calls (reports, takes) are coroutines: many may be in flight, none holds a thread. Its node is the
        # driver's, the one that a search cannot lose.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"name": BOARD, "num_cpus": 0, "max_concurrency": 10_000, "scheduling_strategy": here}
        self.board = ray.remote(LaneBoard).options(**options).remote()
        together = self._first if _one_node() and self._workers == 1 else 1
        for _ in range(self._first // together):
            self._start(together)
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._lock:  # none is started after this
            self._closing.set()
        # Ray's native calls make a SystemError of what a signal's handler raises in them.
        if kind is not None and (not issubclass(kind, Exception) or issubclass(kind, SystemError)):
            self._end_trainers()  # interrupted: no waiting for reports, Ray's own shutdown ends the workers
            return
        ray.get(self.board.close.remote())
        for thread in self._threads:
            if self._ready.intersection(thread.name.split()):
                thread.join(timeout=30)
        if any(thread.is_alive() for thread in self._threads):  # not placed yet: nobody there to hear the board
            self._end_trainers()
        self._watcher.join(timeout=30)
        ray.kill(self.board)

    def _end_trainers(self) -> None:
        """End the threads' trainers: were they still calling Ray while it shuts down, the exit code would be 1."""
        for trainer in self._trainers:
            trainer.end()
        for thread in [*self._threads, self._watcher]:
            thread.join(timeout=10)

    @property
    def count(self) -> int:
        """How many lanes train now, or wait to: those that are ready."""
        with self._lock:
            return len(self._ready)

    @property
    def at_once(self) -> int:
        """How many trials they train at once."""
        return self.count * self.places

    def wait_ready(self) -> None:
        """Return once every lane has asked for work or is lost.

        Raises:
            LanesLost: none has.
        """
        while not self.count:
            ray.get(self.board.wait_ready.remote())
            self._note_ready()
            if self._hopeless:
                raise LanesLost(self._reason)
            if not self.count:
                self._closing.wait(self._poll)

    def train(self, assignments: Sequence[Assignment], reported: Callable[[Assignment, Report], None]) -> None:
        """Train assignments without Tune: each to its end, as many at a time as the lanes have places.

        Args:
            reported: called with every report; of the last one of each assignment `last` is true.

        Raises:
            LanesLost: no lane is left, or the disk is full.
        """
        ray.get([self.board.submit.remote(assignment) for assignment in assignments])
        waiting = {self.board.next_report.remote(one.attempt): one for one in assignments}
        while waiting:
            (reference,), _ = ray.wait(list(waiting), num_returns=1)
            assignment, report = waiting.pop(reference), ray.get(reference)
            if report.failure is not None and report.failure.startswith(HALTS):
                raise LanesLost(report.failure)
            reported(assignment, report)
            if not report.last:
                waiting[self.board.next_report.remote(assignment.attempt)] = assignment

    def _start(self, lanes: int = 1) -> list[str]:
        """Start so many lanes under one trainer, the first that there are not; their names."""
        with self._lock:
            if self._closing.is_set():
                return []
            every = (f"lane-{index}" for index in range(self.most))
            names = list(islice((name for name in every if name not in self._alive | self._broken), lanes))
            self._alive.update(names)
            ray.get(self.board.add_lanes.remote(self._places(names)))
            self._run_beside(names)
            return names

    def _places(self, names: Sequence[str]) -> list[str]:
        return [place for name in names for place in places_of(name, self.places)]

    def _run_beside(self, names: list[str]) -> None:
        thread = threading.Thread(target=self._run, args=(names,), name=" ".join(names), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, names: list[str]) -> None:
        from ray.train import WorkerGroupError

        from trainables.lanes.ray_internals import found_no_place

        for left in reversed(range(MAX_RESTARTS + 1)):
            try:
                self._fit(names)
                return
            except Exception as error:
                if self._closing.is_set():
                    return
                no_place = found_no_place(error)
                if no_place and len(names) > 1:  # there may be for some of them
                    for name in names:
                        self._run_beside([name])
                    return
                if not no_place:  # that takes no traceback
                    logger.exception("%s", ", ".join(names))
                # Before the room is looked at: that takes some for a moment.
                reasons = {name: self._why(name, error, no_place) for name in names}
                # Trials that end in errors may use up the restarts of a lane that works.
                broken = not left or (isinstance(error, WorkerGroupError) and self._ready.isdisjoint(names))
                if not broken and self._room.holds(len(self._alive), new=len(names)):
                    continue  # its processes died before they had begun, or there is room just now
                for name, reason in reasons.items():
                    self._lose(name, reason, broken)
                return

    def _fit(self, names: list[str]) -> None:
        """Have Ray Train run the workers of some lanes to their end."""
        from ray.train import FailureConfig, RunConfig, ScalingConfig

        from trainables.lanes.ray_internals import Apart, Trainer

        backend = Apart()
        if self._workers > 1:
            from ray.train.torch import TorchConfig

            backend = TorchConfig(
                backend=collective_backend(self._workers, self._gpus), timeout_s=PROCESS_GROUP_TIMEOUT
            )
        # A worker whose node leaves could not be replaced alone: those of one trainer stay on the node that a search cannot lose.
        here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()} if len(names) > 1 else None
        trainer = Trainer(
            serve,
            train_loop_config={
                "lanes": names,
                "workers": self._workers,
                "places": self.places,
                "threads": self._cpus,
                "imports": self._imports,
                "namespace": ray.get_runtime_context().namespace,
                "logs": str(self._logs) if self._logs is not None else None,
            },
            scaling_config=ScalingConfig(
                num_workers=self._workers * len(names),
                use_gpu=self._gpus > 0,
                resources_per_worker=dict(self._room.each),
                label_selector=here,
            ),
            run_config=RunConfig(
                name=names[0],
                storage_path=str(self._storage),
                # A group that found no place is a failure of the controller's, after which Ray Train tries for ever.
                failure_config=FailureConfig(max_failures=MAX_RESTARTS * len(names), controller_failure_limit=0),
                worker_runtime_env={"env_vars": MEMORY},
            ),
            backend_config=backend,
            one_node=_one_node(),
        )
        self._trainers.append(trainer)
        trainer.fit()

    def _why(self, name: str, error: Exception, no_place: bool) -> str:
        """In a line, why a lane ended."""
        if no_place:
            seconds = float(os.environ.get(START_TIMEOUT, PLACED_IN))
            return f"{name}: could not be placed in {seconds:g} s: {self._room.shortage()}"
        return f"{name} is lost: {(str(error).strip() or type(error).__name__).splitlines()[-1].rstrip('.')}"

    def _lose(self, name: str, reason: str, broken: bool) -> None:
        logger.warning(reason)
        with self._lock:
            self._reason = reason
            self._ready.discard(name)
            self._losing.add(name)
            if broken:
                self._broken.add(name)
            hope = len(self._broken) < self.most
        ray.get(self.board.lanes_lost.remote(self._places([name]), reason, hope))
        with self._lock:  # not earlier: the board must not hear of a new lane of that name before
            self._alive.discard(name)
            self._losing.discard(name)
            told, hope = hope, len(self._broken) < self.most  # another one may have broken meanwhile
            self._hopeless = not hope and not self._alive
            waits = "; without a lane the search waits until there is room" if hope and not self._alive else ""
        if self._hopeless and told:
            ray.get(self.board.give_up.remote(reason))
        self._told(f"warning: {reason}{waits}", self.count)

    def _give_up(self) -> None:
        with self._lock:
            self._reason = f"there was no room for a lane in {WAIT_FOR_ROOM:g} s; {self._reason}"
        ray.get(self.board.give_up.remote(self._reason))
        self._hopeless = True

    def _watch(self) -> None:
        """Notes which lanes are ready, and starts those that there is room for."""
        late: set[str] = set()
        polls = 0  # without a lane; counted, as a suspended process has waited for nothing
        while not self._closing.wait(self._poll):
            try:
                polls = 0 if self._alive else polls + 1
                if polls * self._poll > WAIT_FOR_ROOM and not self._hopeless:
                    self._give_up()
                for name in self._note_ready() & late:
                    late.discard(name)
                    logger.info("%s is ready", name)
                    self._told(f"{name} joins: there is room for it", self.count)
                lanes = len(self._alive)
                new = min(self.most - len(self._broken) - lanes, self._room.free())
                while new > 0 and not self._room.holds(lanes + new, new):
                    new //= 2
                for _ in range(new):
                    late.update(self._start())
            except Exception:
                if not self._closing.is_set():
                    logger.exception("looking for room for lanes")

    def _note_ready(self) -> set[str]:
        ready = {lane_of(place) for place in ray.get(self.board.ready_lanes.remote())}
        with self._lock:
            self._ready = (ready & self._alive) - self._losing
        return ready


def _one_node() -> bool:
    return len([node for node in ray.nodes() if node["Alive"]]) == 1


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
