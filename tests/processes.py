"""Ray's processes that tests started, as /proc has them."""

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.waiting import wait_until

MARK = "PSF_SEARCH_TESTS"
"""Variable of the environment: which process of tests has started this one, itself or through others."""


def ray_processes() -> dict[int, str]:
    """Everything Ray runs for this process of tests: process ids and titles."""
    found = {}
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
                ours = mark in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if not ours:
                continue
            if title.startswith("ray::") or "/raylet" in title or "gcs_server" in title:
                found[int(entry.name)] = title
    return found


def own_processes() -> dict[int, str]:
    """Those of `ray_processes` that this process started, or what it started."""
    return {pid: title for pid, title in ray_processes().items() if os.getpid() in _ancestors(pid)}


def tree(pid: int) -> set[int]:
    """A process and all that it started, and they, whatever their sessions."""
    return {pid} | {
        one
        for one in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        if pid in _ancestors(one)
    }


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            return
        yield pid


def wait_for_the_end(besides: Iterable[int]) -> None:
    """Until Ray runs nothing but those. Workers end by themselves once their node is gone: they notice within a second. The agents
    of a node that had only just started take up to a minute.

    Raises:
        TimeoutError: something stayed.
    """
    wait_until(lambda: ray_processes().keys() <= set(besides), seconds=90)


def kill(title: str, besides: Iterable[int] = ()) -> bool:
    """SIGKILL one of our own Ray processes that has `title` in its own, other than those; False if there is none."""
    for pid, its in own_processes().items():
        if title in its and pid not in besides:
            os.kill(pid, signal.SIGKILL)
            return True
    return False
