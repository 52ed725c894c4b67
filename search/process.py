"""Starting Ray for a search."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from results.run_directory import MachineError
from search.interruption import handler_kept
from spaces.disk import full_disk

logger = logging.getLogger(__name__)

TRIES = 3
"""Ray gives up when its node is not there within 30 s, a number in its code (ray/_private/node.py, 2.60), and the node itself when its
agents have not come in 15 s. What they had to read from the disk is in memory the next time."""
# What Ray lets be set, for machines that are busy with something else; its defaults: 60 and 30 s, and 30 s for one's own head. A cluster
# that runs already is asked again and again for as long, also when it refuses the token: Ray's 20 s are enough for it.
HEAD_PATIENCE = {"RAY_gcs_server_port_wait_time_s": "120"}
PATIENCE = {
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_agent_register_timeout_ms": "120000",
}


LOST = 3.0
"""Seconds without an answer after which Ray's head is taken for gone by who is ending anyway."""


def ray_is_lost() -> bool:
    """Wait until Ray's head is gone (True), or this process has let go of Ray (False).

    What then still asks Ray for something waits for a minute, and the process is ended in the middle of it, with exit code 1.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    answered = time.monotonic()
    while ray.is_initialized():
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            answered = time.monotonic()
        if time.monotonic() - answered > LOST:
            return True
        time.sleep(LOST / 10)
    return False


def start_ray(address: str = "local", said: Callable[[str], None] = logger.warning, **options: Any) -> Any:
    """`ray.init` with what lanes need in the environment, and without Ray's own lines; "local": never a Ray that runs already.

    Args:
        said: told when Ray has not started and is tried again.

    Raises:
        MachineError: Ray cannot be started here.
        OSError: no cluster answers at the address, or the disk is full.
    """
    import ray

    from trainables.lanes.lanes import ray_environment

    patience = PATIENCE | (HEAD_PATIENCE if address == "local" else {})
    os.environ.update(patience | {name: os.environ[name] for name in patience if name in os.environ})
    os.environ.update(ray_environment())
    others = _daemons()
    for tried in range(1, TRIES + 1):
        try:
            with handler_kept():
                return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray raises just that
            if address != "local" or full_disk(error) is not None:
                raise
            if isinstance(error, OSError) and error.filename:
                raise MachineError(
                    f"{error.filename}: {error.strerror}; Ray keeps its files there, RAY_TMPDIR=DIRECTORY moves them"
                ) from error
            for pid in _daemons() - others:  # Ray knows them no more, and they would run as long as this process
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            why = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
            if tried == TRIES:
                raise MachineError(f"Ray did not start in {TRIES} tries: {why}; is the machine too busy?") from error
            said(f"warning: Ray did not start: {why}; trying again ({tried + 1} of {TRIES})")
    raise AssertionError


def _daemons() -> set[int]:
    """Ray's first processes, which this one has started; their own end with them."""
    found, tasks = set(), Path("/proc/self/task")
    for task in tasks.iterdir() if tasks.is_dir() else ():
        for pid in _text(task / "children").split():
            with suppress(OSError):  # it has just ended
                name = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
                if name.endswith((b"/raylet", b"/gcs_server")):
                    found.add(int(pid))
    return found


def _text(path: Path) -> str:
    with suppress(OSError):  # a thread that has just ended, or a kernel without it
        return path.read_text()
    return ""
