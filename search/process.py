"""The driver's process: signals that end a search in order, and a terminal free of what libraries print."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO


class Interrupted(BaseException):
    """Raised where the search is when a signal asks it to end."""


@dataclass
class Interruption:
    """Which signal, if any, has asked the search to end."""

    number: int | None = None


def start_ray(address: str = "local", **options: Any) -> Any:
    """`ray.init` with what lanes need in the environment, and without Ray's own lines; "local": never a Ray that runs already."""
    import ray

    from trainables.lanes.lanes import ray_environment

    os.environ.update(ray_environment())
    return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)


@contextmanager
def signals() -> Iterator[Interruption]:
    """The first SIGINT or SIGTERM raises `Interrupted`; while the search then ends, a second one is not waited for."""
    interruption = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interruption.number = number
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        raise Interrupted

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def library_output_to(log: Path) -> Iterator[TextIO]:
    """Send all that libraries log or print, native code included, to a file; yields the terminal, for the search."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    root = logging.getLogger()
    with log.open("a") as file, os.fdopen(os.dup(saved[0]), "w", buffering=1) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            yield terminal
        finally:
            root.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, kept in enumerate(saved, start=1):
                os.dup2(kept, descriptor)
                os.close(kept)
