"""One driver for a run at a time, also where several machines share its directory.

The run's own lock (`RunDirectory.lock`) is the kernel's, which knows the processes of one machine. A lease is a file that its holder renews;
it works on any file system with atomic renames. A driver that cannot renew it, such as one whose machine was suspended,
finds another one's there when it wakes, and stops.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from results.run_directory import RunError
from spaces.files import replacing, write

RENEWED = 10.0
"""Seconds between two renewals."""
STALE = 60.0
"""Seconds without one after which the holder is taken for dead."""


class TakenOver(RunError):
    """Another driver has the run now."""


@dataclass(frozen=True)
class Holder:
    """Who has a lease. `study` is where its working copy of the study is on its machine, None if that is in the run's directory."""

    host: str
    pid: int
    token: str
    study: str | None

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()


class Lease:
    """The file `path`, to be held by this process.

    Args:
        stale: see `STALE`.
    """

    def __init__(self, path: Path, stale: float = STALE) -> None:
        self._path, self._stale = path, stale
        self._own = Holder(socket.gethostname(), os.getpid(), uuid.uuid4().hex, None)

    def take(self, sure: bool, said: Callable[[str], None]) -> Holder | None:
        """Hold it; returns who had it last and did not give it back, None if nobody.

        A working copy that a dead driver of this machine left stays the lease's until `works_on`: it is the latest one.

        Args:
            sure: the run's lock says that no process of any machine has the run, so that a holder is dead.
            said: told if it takes a while to find out whether the holder is alive.

        Raises:
            RunError: another driver holds it.
        """
        previous = self._read()
        if previous is not None and not sure and not previous.here:
            self._outwait(previous, said)
        if previous is not None and previous.here:
            self._own = replace(self._own, study=previous.study)
        self._write()
        self.renew()
        return previous

    def works_on(self, study: Path | None) -> None:
        """Say where the study is from now on, see `Holder`.

        Raises:
            TakenOver: another driver has it.
        """
        self.check()
        self._own = replace(self._own, study=None if study is None else str(study))
        self._write()

    def _write(self) -> None:
        write(self._path, json.dumps(asdict(self._own)).encode())

    def _outwait(self, previous: Holder, said: Callable[[str], None]) -> None:
        """See no sign of life of the holder for long enough."""
        try:
            seen = self._path.stat().st_mtime_ns
        except FileNotFoundError:  # given back
            return
        if self._now() - seen > 1e9 * self._stale:
            return
        said(f"{previous.host} has written to this run lately; waiting {self._stale:g} s for a sign that it still does")
        ends = time.monotonic() + self._stale
        while time.monotonic() < ends:
            time.sleep(self._stale / 60)
            try:
                alive = self._path.stat().st_mtime_ns != seen
            except FileNotFoundError:  # given back
                return
            if alive:
                raise RunError(
                    f"{self._path.parent}: a search on {previous.host} (process {previous.pid}) is writing to this run; wait for it, or "
                    "choose another --name"
                )

    def _now(self) -> int:
        """The file server's clock, in nanoseconds: that of this machine may be another."""
        with replacing(self._path.with_suffix(".probe")) as probe:
            probe.touch()
            return probe.stat().st_mtime_ns

    def renew(self) -> None:
        """Show that this process lives.

        Raises:
            TakenOver: another driver has it.
        """
        self.check()
        os.utime(self._path)

    def check(self) -> None:
        """Raises TakenOver: another driver has it."""
        if (holder := self._read()) != self._own:
            who = "another driver" if holder is None else f"a driver on {holder.host} (process {holder.pid})"
            raise TakenOver(f"{self._path.parent}: {who} has taken this run over, and goes on with it; this one ends")

    def give_back(self) -> None:
        """The run is free at once."""
        self.check()
        self._path.unlink()

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._path.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):  # none, or a damaged one
            return None
