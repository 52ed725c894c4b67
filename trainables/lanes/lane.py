"""A lane's workers: a long-lived Ray Train worker group that trains one trial after another.

Starting a TorchTrainer costs 20 s and more (a controller, W workers, each importing torch); a trial of this project
may last two. So a lane is started once, `serve` runs on its W workers until the search ends, and trials come to it
through the board. One path serves 1 worker and W (DDP), CPU and GPU, one node and many.

A lane of one worker may have several places: a thread each, with a trial of its own.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, Literal

import ray

from spaces.disk import full_disk
from trainables.lanes.board import BOARD, NO_SPACE, Assignment, places_of
from trainables.lanes.task import TrialFailure, Worker

logger = logging.getLogger(__name__)

# An idle lane's workers meet this often (s), well inside the process group's time-out.
HEARTBEAT = 60.0


# Environment of the workers. glibc would give megabytes that one step frees back to the kernel, which clears every page of them
# again for the next: 2 to 10 % of a step's time. Bytes above which a block comes from the kernel and goes back to it (older
# versions refuse more), and above which free memory does; the second alone would end the adjustment of the first.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


def collective_backend(workers: int, gpus: float) -> Literal["nccl", "gloo"]:
    """What a lane's workers, each with so many GPUs, talk through.

    NCCL refuses two ranks on one GPU ("Duplicate GPU"); gloo takes tensors of either device. One worker needs neither.
    """
    return "nccl" if workers > 1 and gpus >= 1 else "gloo"


def serve(config: dict[str, Any]) -> None:
    """Ray Train's `train_loop_per_worker` of a lane: take, train, report, until the board closes."""
    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    device = get_device()
    assert not isinstance(device, list), "one device per worker"
    index, rank = divmod(get_context().get_world_rank(), config["workers"])
    lane, worker = config["lanes"][index], Worker(rank, config["workers"], str(device), config["places"])
    places = places_of(lane, config["places"])
    current_thread().name = lane  # for the log
    torch.set_num_threads(config["threads"])
    for module in config["imports"]:
        import_module(module)
    open_log(Path(config["logs"], f"{lane}.log") if config["logs"] is not None else None, worker, len(places))
    where = f"{socket.gethostname()} (node {ray.get_runtime_context().get_node_id()[:8]})"
    logger.info("%s starts on %s, device %s, threads %d", lane, where, worker.device, torch.get_num_threads())
    board = ray.get_actor(BOARD, namespace=config["namespace"])

    def serve_place(place: str) -> None:
        torch.set_num_threads(config["threads"])  # of the calling thread
        _serve(place, board, worker, Path(config["logs"] or "."))

    try:
        if len(places) == 1:
            serve_place(lane)
        else:
            side_by_side(places, serve_place)
    except Exception:
        logger.exception("%s ends with an error", lane)
        raise
    logger.info("%s ends", lane)


def side_by_side(names: Sequence[str], call: Callable[[str], None]) -> None:
    """Call it with every name, each in a thread of that name, until all have returned or one has failed.

    The others then go on until their process ends, as that of a worker does whose training function fails.
    """
    ended = SimpleQueue[BaseException | None]()

    def run(name: str) -> None:
        try:
            call(name)
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    for name in names:
        Thread(target=run, args=(name,), name=name, daemon=True).start()
    for _ in names:
        if (error := ended.get()) is not None:
            raise error


def _serve(lane: str, board: Any, worker: Worker, home: Path) -> None:
    """Take and train, at one place of a lane; `home` is on the disk that is taken for the full one where an error does not say which."""
    while True:
        taken = _asked(worker, lambda: ray.get(board.take.remote(lane, HEARTBEAT)))
        if taken == "close":
            return
        if taken == "wait":
            continue
        assert isinstance(taken, Assignment)
        trial, attempt = str(taken), taken.attempt
        if worker.rank == 0:
            logger.info("%s taken (attempt %s)", trial, attempt)
        try:
            ending = _work_on(taken, lane, board, worker)
        except TrialFailure as failure:
            ending = f"failed: {failure}"
            _asked(worker, partial(_tell, board.fail, attempt, str(failure)))
        except Exception as error:
            if (full := full_disk(error, home)) is not None:
                _tell(board.fail, attempt, f"{NO_SPACE}: {full}")
            _tell(board.crashing, attempt, "".join(traceback.format_exception_only(error)).strip())
            if worker.world_size > 1:
                raise  # the ranks no longer agree: Ray Train restarts the group
            logger.exception("%s: attempt %s", trial, attempt)
            continue  # the board gives it to this lane again, from its checkpoint, until it has failed too often
        if worker.rank == 0:
            logger.info("%s %s", trial, ending)
        _asked(worker, partial(_tell, board.release, lane))


def _work_on(taken: Assignment, lane: str, board: Any, worker: Worker) -> str:
    """Do what an assignment asks for until its last report or until told to stop; how it ended, in words."""
    with closing(taken.task.reports(worker)) as reports:
        for progress in reports:
            step, metrics, last = progress.step, progress.metrics, progress.last

            def tell(step: int = step, metrics: dict[str, float] = metrics, last: bool = last) -> tuple[bool, bool]:
                logger.info("%s: %s", taken, _described(step, metrics, taken.task.metric))
                return bool(ray.get(board.report.remote(lane, taken.attempt, step, metrics, last))), last

            go_on, last = _asked(worker, tell)
            if last or not go_on:
                return "ended" if last else "stopped"
    return "ended without its last report"


def _asked(worker: Worker, call: Callable[[], Any]) -> Any:
    """What rank 0 is told, on every rank."""
    box = [call() if worker.rank == 0 else None]
    if worker.world_size > 1:
        import torch.distributed as dist

        dist.broadcast_object_list(box, src=0)
    return box[0]


def _tell(method: Any, *arguments: Any) -> None:
    ray.get(method.remote(*arguments))


def _described(step: int, metrics: dict[str, float], metric: str) -> str:
    parts = [f"step {step}"]
    if metric in metrics:
        parts.append(f"{metric} {metrics[metric]:.4g}")
    if "train/steps_per_second" in metrics:
        parts.append(f"{metrics['train/steps_per_second']:.3g} steps/s")
    return ", ".join(parts)


def open_log(path: Path | None, worker: Worker, places: int = 1) -> None:
    """Append what `trainables` logs in this process to a file, line by line; to none where it cannot be opened.

    Lines of several workers begin with the rank, those of several places with the thread's name: the place.
    """
    package = logging.getLogger("trainables")
    package.setLevel(logging.INFO)
    if path is None:
        return
    try:
        handler = logging.FileHandler(path)
    except OSError as error:  # a node without the shared directory trains nevertheless
        logger.warning("%s: no log here: %s", path, error.strerror)
        return
    who = f"rank {worker.rank}: " if worker.world_size > 1 else "%(threadName)s: " if places > 1 else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {who}%(message)s"))
    package.addHandler(handler)
