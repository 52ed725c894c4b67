"""One driver for a run at a time, also where several machines share its directory, or the bucket that has its copy.

The run's own lock (`RunDirectory.lock`) is the kernel's, which knows the processes of one machine. A lease is a record that its holder renews:
a file, on any file system with atomic renames, or an object of a bucket (search/storage/lease_object.py). A driver that cannot renew it, such as one
whose machine was suspended, finds another one's there when it wakes, and stops.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from results.run_directory import RunError
from spaces.files import write

RENEWED = 10.0
"""Seconds between two renewals."""
STALE = 60.0
"""Seconds without one after which the holder is taken for dead."""


class TakenOver(RunError):
    """Another driver has the run now."""


class Overtaken(OSError):
    """Somebody else has written the record since it was read."""


def process_space() -> str:
    """What numbers of processes are of: this boot of this machine, and this container."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return socket.gethostname()


@dataclass(frozen=True)
class Holder:
    """Who has a lease. `study` is where its working copy of the study is on its machine, None if that is in the run's directory."""

    host: str
    pid: int
    token: str
    study: str | None
    space: str = ""
    """Its `process_space`."""

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def dead(self) -> bool:
        """Whether it is known to be: its process was of those that are seen from here, and is no more."""
        if self.space != process_space():
            return False
        if self.pid == os.getpid():  # the number is another process' now
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # another user's
            return False
        return False


class LeaseStore(ABC):
    """What a lease's record is kept in. Its methods may raise OSError: it cannot be read or written, now or at all."""

    run: str
    """The run, for messages."""

    @abstractmethod
    def read(self) -> bytes | None:
        """The record; None: there is none."""

    @abstractmethod
    def write(self, record: bytes) -> None:
        """Write the record over the one that was read.

        Raises:
            Overtaken: that is another one by now. A store that cannot tell writes.
        """

    @abstractmethod
    def renew(self, record: bytes) -> None:
        """Show a sign of life: of the record, which is there. Raises Overtaken as `write` does."""

    @abstractmethod
    def sign(self) -> object | None:
        """What each sign of life changes; None: there is no record."""

    @abstractmethod
    def silence(self) -> float:
        """Seconds since the last one that `sign` saw, by the clock of the store: that of this machine may be another."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the record."""

    def holder(self) -> Holder | None:
        """Who has the lease, or had it last; None: nobody, or the record is damaged."""
        record = self.read()
        try:
            known = {field.name for field in fields(Holder)}  # a later version may say more
            return None if record is None else Holder(**{k: v for k, v in json.loads(record).items() if k in known})
        except (ValueError, TypeError, AttributeError):
            return None


class LeaseFile(LeaseStore):
    """A file of the run's directory; its time of change is the sign of life."""

    def __init__(self, path: Path) -> None:
        self._path, self.run = path, str(path.parent)
        self._seen = 0

    def read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, record: bytes) -> None:
        write(self._path, record)

    def renew(self, record: bytes) -> None:
        os.utime(self._path)

    def sign(self) -> object | None:
        try:
            self._seen = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        return self._seen

    def silence(self) -> float:
        with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=".") as probe:
            return 1e-9 * (os.fstat(probe.fileno()).st_mtime_ns - self._seen)

    def remove(self) -> None:
        self._path.unlink()


class Lease:
    """A record in a store, to be held by this process; several threads may use it.

    Args:
        stale: see `STALE`.
    """

    def __init__(self, store: LeaseStore, stale: float = STALE) -> None:
        self._store, self._stale = store, stale
        self._own = Holder(socket.gethostname(), os.getpid(), uuid.uuid4().hex, None, process_space())
        self._lock = threading.RLock()

    def take(self, sure: bool, said: Callable[[str], None]) -> Holder | None:
        """Hold it; returns who had it last and did not give it back, None if nobody.

        A working copy that a dead driver of this machine left stays the lease's until `works_on`: it is the latest one.

        Args:
            sure: the run's lock says that no process of any machine has the run, so that a holder is dead.
            said: told if it takes a while to find out whether the holder is alive.

        Raises:
            RunError: another driver holds it.
        """
        previous = self._store.holder()
        if previous is not None and not sure and not previous.dead:
            self._outwait(previous, said)
        if previous is not None and previous.here:
            self._own = replace(self._own, study=previous.study)
        try:
            self._store.write(self._record())
        except Overtaken:
            raise RunError(f"{self._store.run}: another search has just begun to write to this run") from None
        self.renew()
        return previous

    def works_on(self, study: Path | None) -> None:
        """Say where the study is from now on, see `Holder`.

        Raises:
            TakenOver: another driver has it.
        """
        with self._lock:
            self.check()
            self._own = replace(self._own, study=None if study is None else str(study))
            self._written(self._store.write)

    def renew(self) -> None:
        """Show that this process lives.

        Raises:
            TakenOver: another driver has it.
        """
        with self._lock:
            self.check()
            self._written(self._store.renew)

    def check(self) -> None:
        """Raises TakenOver: another driver has it."""
        with self._lock:
            if (holder := self._store.holder()) != self._own:
                raise self._lost(holder)

    def give_back(self) -> None:
        """The run is free at once."""
        with self._lock:
            self.check()
            self._store.remove()

    def _record(self) -> bytes:
        return json.dumps(asdict(self._own)).encode()

    def _written(self, how: Callable[[bytes], None]) -> None:
        try:
            how(self._record())
        except Overtaken:
            raise self._lost(self._store.holder()) from None

    def _lost(self, holder: Holder | None) -> TakenOver:
        who = "another driver" if holder is None else f"a driver on {holder.host} (process {holder.pid})"
        return TakenOver(f"{self._store.run}: {who} has taken this run over, and goes on with it; this one ends")

    def _outwait(self, previous: Holder, said: Callable[[str], None]) -> None:
        """See no sign of life of the holder for long enough."""
        if (seen := self._store.sign()) is None:  # given back
            return
        if self._store.silence() > self._stale:
            return
        said(f"{previous.host} has written to this run lately; waiting {self._stale:g} s for a sign that it still does")
        ends = time.monotonic() + self._stale
        while time.monotonic() < ends:
            time.sleep(self._stale / 60)
            if (sign := self._store.sign()) is None:
                return
            if sign != seen:
                raise RunError(
                    f"{self._store.run}: a search on {previous.host} (process {previous.pid}) is writing to this run; wait for it, or "
                    "choose another --name"
                )
