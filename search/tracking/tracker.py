"""Tells a tracker of a search's course without ever being in its way.

The search puts messages into a queue; a thread writes them to a process of the tracker's own (search/tracking/client.py), which
alone talks to a server or a database. What that process does, such as waiting for a server that never answers, costs the search
nothing: reports that find the queue full are dropped and counted, and at the end the process is given a few seconds, then stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from results.run_directory import RunDirectory
from search.observer import Observer, Observers
from search.tracking.trackers import TRACKERS
from spaces.errors import SpaceError
from spaces.study import Scalar

logger = logging.getLogger(__name__)

QUEUED = 1000
"""Messages that wait; more reports are dropped."""
CLOSING, INTERRUPTED = 5.0, 2.0
"""Seconds that a tracker is given to send the rest, when the search has ended, and when it was interrupted or failed."""
Message = dict[str, Any]


class Tracker(Observer):
    """Passes what an observer hears on to one tracker; a context manager, at whose end the tracker is closed.

    Nothing is started before the first trial. Every message has a place: reports may be dropped, starts and ends of trials are not.

    Args:
        name: one of `TRACKERS`.
        directory: the run's; its record is read when the first trial starts.
        said: told, at most some lines, of trouble and of what was not sent; from any thread.
    """

    def __init__(self, name: str, directory: RunDirectory, said: Callable[[str], None]) -> None:
        self._name, self._directory, self._said = name, directory, said
        self._queue: queue.Queue[Message | None] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        self._threads = [threading.Thread(target=self._feed, name=f"{name}-feed", daemon=True)]
        self._queued = self._done = self._dropped = 0

    # Observer

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None:
        self._begin(f"trial-{number}", f"trial {number}", "trial", params)

    def trial_reported(self, number: int, step: int, value: float, metrics: Mapping[str, float]) -> None:
        self._report(f"trial-{number}", step, metrics)

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        self._end(f"trial-{number}", state, {"step": step, "value": value, "reason": reason})

    def finalist_started(self, number: int, seed: int, params: dict[str, Scalar]) -> None:
        name = f"finalist {number}, seed {seed}"
        self._begin(_finalist(number, seed), name, "finalist", params | {"fresh_seed": seed})

    def finalist_reported(self, number: int, seed: int, step: int, metrics: Mapping[str, float]) -> None:
        self._report(_finalist(number, seed), step, metrics)

    def finalist_ended(self, number: int, seed: int, failure: str | None) -> None:
        self._end(_finalist(number, seed), "COMPLETE" if failure is None else "FAIL", {"reason": failure})

    def search_ended(self, directory: RunDirectory) -> None:
        """The comparison at the test set, and the model's card."""
        summary = directory.read_summary()
        assert summary is not None, "a search that has ended has its summary"
        metrics = {
            f"test/{method}/{name}": value for method, values in summary.test.items() for name, value in values.items()
        }
        files = [str(one.resolve()) for one in (directory.model / "card.md", directory.summary)]
        told = {"winner": summary.best.number, "verdict": summary.final.verdict, "ended": summary.ended}
        self._put({"do": "finals", "metrics": metrics, "told": told, "files": files})

    # Messages

    def _begin(self, key: str, name: str, kind: str, params: Mapping[str, Scalar]) -> None:
        self._put({"do": "begin", "key": key, "name": name, "kind": kind, "params": dict(params)})

    def _report(self, key: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._queue.qsize() >= QUEUED:
            self._dropped += 1
        else:
            self._put({"do": "report", "key": key, "step": step, "metrics": dict(metrics)})

    def _end(self, key: str, state: str, told: Mapping[str, Any]) -> None:
        self._put({"do": "end", "key": key, "state": state, "told": dict(told)})

    def _put(self, message: Message) -> None:
        if not self._queued:
            self._threads[0].start()
        self._queued += 1
        self._queue.put(message)

    # The process

    def _feed(self) -> None:
        """Start the process and write to it, until the end or until it is gone."""
        try:
            try:
                self._process = process = self._start()
            finally:
                self._started.set()
            assert process.stdin is not None
            reader = threading.Thread(target=self._listen, args=(process,), name=f"{self._name}-listen", daemon=True)
            self._threads.append(reader)
            reader.start()
            _write(process, {"do": "search"} | self._search())
            while (message := self._queue.get()) is not None:
                _write(process, message)
        except (OSError, SpaceError) as error:  # it is gone, or never was; what it said is in its log
            logger.warning("%s: %s", self._name, error)
        finally:
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):  # what could not be written
                    self._process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        """In a session of its own, as Ctrl-C is the search's to answer, with our packages from where they are here."""
        here = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        with (self._directory.logs / f"{self._name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "search.tracking.client", self._name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )

    def _search(self) -> Message:
        """What a tracker has to know of the run. Its `id` is the same when it is resumed, or moved."""
        record = self._directory.read_record()
        return {
            "id": hashlib.sha256(f"{record.name} {record.started.isoformat()}".encode()).hexdigest()[:16],
            "name": record.name,
            "directory": str(self._directory.path.resolve()),
            "config": {
                "space": record.space,
                "preset": record.preset,
                "seed": record.seed,
                "source": record.source.name,
                "objective": record.study["objective"]["metric"],
                **{f"versions/{name}": version for name, version in record.versions.items()},
            },
        }

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Lines of the process: of a message that is done with an empty one, else what there is to say."""
        assert process.stdout is not None
        for line in process.stdout:
            if text := line.decode(errors="replace").strip():
                self._said(f"{self._name}: {text}")
            else:
                self._done += 1

    # The end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._queued:
            self.close(CLOSING if kind is None else INTERRUPTED)

    def close(self, seconds: float) -> None:
        """Let the process send the rest for so long, then end it; say what was not sent."""
        self._queue.put(None)
        self._started.wait()
        late = False
        if (process := self._process) is not None:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                late = True
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started, such as a library's own service
                process.wait()
        for thread in self._threads:
            thread.join(1.0)  # nothing holds them any more
        self._say_what_is_missing(late)

    def _say_what_is_missing(self, late: bool) -> None:
        missing, sent = self._dropped + max(0, self._queued - self._done), self._dropped + self._queued
        if not missing:
            return
        failed = self._process is None or (not late and self._process.returncode != 0)
        slow = late or self._dropped
        why = "it failed" if failed else "it was too slow" if slow else "they were refused"
        dropped = f" ({self._dropped} reports found its queue full)" if self._dropped else ""
        log = self._directory.logs / f"{self._name}.log"
        self._said(f"warning: {self._name}: {missing} of {sent} messages are missing{dropped}: {why}; {log} says more")


def _finalist(number: int, seed: int) -> str:
    return f"finalist-{number}-seed-{seed}"


def _write(process: subprocess.Popen[bytes], message: Message) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message, default=str).encode() + b"\n")
    process.stdin.flush()


@contextmanager
def tracked(names: Sequence[str], directory: RunDirectory, observer: Observer) -> Iterator[Observer]:
    """The observer, and beside it trackers by name, which are closed at the end."""
    assert set(names) <= TRACKERS.keys()
    with ExitStack() as opened:
        trackers = [opened.enter_context(Tracker(name, directory, observer.say)) for name in dict.fromkeys(names)]
        yield Observers(observer, *trackers) if trackers else observer
