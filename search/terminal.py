"""A search as the command line runs it: shown on the terminal, ended in order by signals, libraries' output in a file."""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import sys
from collections.abc import Buffer, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console

from results.analysis import analyze
from results.run_directory import MachineError, RunDirectory
from results.tables import analysis_tables
from search.api import execute
from search.display import Display
from search.interruption import Interruption, interruptible
from search.plan import Job
from search.process import ray_is_lost
from spaces.errors import SpaceError

logger = logging.getLogger(__name__)


def run_in_terminal(job: Job, *, cache: str, address: str | None, dashboard: bool, track: Sequence[str] = ()) -> int:
    """Run or go on with a search; returns the exit code: 0, 1 (failed), or a signal's.

    Raises:
        SpaceError: the run is in use or damaged, or the cluster cannot hold its shape.
    """
    log = job.directory.logs / "driver.log"
    with library_output_to(log) as terminal:
        console = Console(file=terminal, markup=False)

        def say(why: str) -> None:
            console.print(f"{why}\n{_go_on(job, cache, address, track)}", highlight=False, soft_wrap=True)

        def watch(interruption: Interruption) -> None:
            """Where the signal has ended Ray as well, nothing can be ended in order any more."""
            if ray_is_lost():
                logger.error("interrupted, and Ray has ended before")
                say("interrupted")
                console.show_cursor()  # which the status line hides
                os._exit(interruption.exit_code)

        with interruptible(watch) as interruption:
            try:
                with Display(job.study, budget=job.budget, console=console) as display:
                    execute(job, cache=cache, address=address, dashboard=dashboard, track=track, observer=display)
                console.print(analysis_tables(analyze(job.directory)))
                console.print(_places(job.directory), highlight=False, soft_wrap=True)
                return 0
            except SpaceError as error:
                logger.exception("the search ended early: %s", error)
                if isinstance(error, MachineError) and job.directory.record.exists():
                    console.print(_go_on(job, cache, address, track), highlight=False, soft_wrap=True)
                raise
            except BaseException as error:
                # Ray's native calls may wrap what a signal handler raises: the handler's own note tells.
                if interruption.number is None and not isinstance(error, Exception):
                    raise
                logger.exception("the search ended early")
                say("interrupted" if interruption.number is not None else f"failed: {error}; {log} says more")
                return 1 if interruption.number is None else interruption.exit_code


def _places(run: RunDirectory) -> str:
    paths = {
        "report": run.report,
        "model": run.model,
        "pictures": run.figures,
        "TensorBoard": run.tensorboard,
        "summary": run.summary,
    }
    return "\n".join(f"{name:12} {path}" for name, path in paths.items() if path.exists())


def _go_on(job: Job, cache: str, address: str | None, track: Sequence[str]) -> str:
    directory = job.directory
    if not directory.record.exists():
        return "The run had not begun: nothing is saved, its name is free"
    out = directory.path.parent if job.mirror is None else job.mirror.bucket.parent
    options = ["--out", str(out), "--cache", cache]
    options += ["--address", address] if address else []
    options += [part for name in track for part in ("--track", name)]
    command = shlex.join(["psf-search", "run", "--resume", directory.name, *options])
    return f"Every reported result is saved. Go on with:\n  {command}"


def _unbuffered(log: Path) -> TextIO:
    """A full disk loses lines, and nothing waits to be written when the file is closed."""
    return io.TextIOWrapper(log.open("ab", buffering=0), write_through=True)  # type: ignore[type-var]


class _Terminal(io.FileIO):
    """The terminal under a descriptor. Once it is lost, what it would have shown goes to the log."""

    def __init__(self, descriptor: int, log: TextIO) -> None:
        super().__init__(descriptor, "w")
        self._log = log

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            os.dup2(self._log.fileno(), self.fileno())
            return super().write(data)


def _shown(descriptor: int, log: TextIO) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(_Terminal(descriptor, log)), line_buffering=True)


@contextmanager
def library_output_to(log: Path) -> Iterator[TextIO]:
    """Send all that libraries log or print, native code included, to a file; yields the terminal, for the search."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    root = logging.getLogger()
    with _unbuffered(log) as file, _shown(os.dup(saved[0]), file) as terminal:
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
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):  # a full disk
                    stream.flush()
            for descriptor, kept in enumerate(saved, start=1):
                os.dup2(kept, descriptor)
                os.close(kept)
