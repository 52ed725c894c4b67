"""Connections to a run's study database that wait for others: dashboards and backups may hold its lock for seconds."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results.run_directory import MachineError, RunError
from spaces.disk import is_full, no_space

logger = logging.getLogger(__name__)

TRY = 1.0
"""Seconds that SQLite waits in one try; a signal is heard between two. Tries are counted, not time: a suspended process has used none."""
QUIET_TRIES, TRIES = 2, 60


class Patience:
    """Makes connections that try for a minute to get a lock that another process holds.

    Args:
        said: told, once per wait, of one that takes longer than `QUIET_TRIES`.
    """

    def __init__(self, path: Path, said: Callable[[str], None] = logger.warning) -> None:
        self._path, self._said = path, said
        self.failure: RunError | None = None
        """Why it was in vain, or why nothing may be written any more. Nothing else is tried on the way out."""

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """As `sqlite3.connect`. Its calls raise MachineError when the wait is over."""
        return _Connection(*arguments, **(options | {"timeout": TRY}), patience=self)

    def wait_for[Result](self, call: Callable[[], Result]) -> Result:
        """What a call returns, once no other process is in its way."""
        for tried in range(TRIES):
            if self.failure is not None:
                raise self.failure
            try:
                return call()
            except sqlite3.OperationalError as error:
                full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR and is_full(self._path.parent)
                if full or error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    self.failure = MachineError(no_space(self._path))
                    raise self.failure from None
                if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY):
                    raise
                if tried + 1 == QUIET_TRIES:
                    self._said(f"warning: {self._path}: locked by {holders(self._path)}; waiting for it")
        self.failure = MachineError(
            f"{self._path}: locked for {TRIES * TRY:g} s by {holders(self._path)}; end that program, then try again"
        )
        raise self.failure


class _Connection(sqlite3.Connection):
    def __init__(self, *arguments: Any, patience: Patience, factory: Any = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = patience

    def cursor(self, factory: Any = None) -> Any:
        return super().cursor(_Cursor)

    def commit(self) -> None:
        self._patience.wait_for(super().commit)

    def patience(self) -> Patience:
        return self._patience


class _Cursor(sqlite3.Cursor):
    """A statement that finds the lock taken has done nothing, so it can be tried again."""

    def execute(self, *arguments: Any) -> Any:
        return self._patience().wait_for(lambda: sqlite3.Cursor.execute(self, *arguments))

    def executemany(self, *arguments: Any) -> Any:
        return self._patience().wait_for(lambda: sqlite3.Cursor.executemany(self, *arguments))

    def _patience(self) -> Patience:
        connection = self.connection
        assert isinstance(connection, _Connection)
        return connection.patience()


def holders(path: Path) -> str:
    """The processes that have a lock on a database, in words, as far as /proc knows those of this machine."""
    inodes = set()
    for file in (path, path.with_name(path.name + "-shm")):
        if file.exists():
            inodes.add(file.stat().st_ino)
    found: dict[int, bool] = {}
    try:
        for line in Path("/proc/locks").read_text().splitlines():
            # "1: POSIX  ADVISORY  WRITE 4242 fe:00:1234 120 120"; a "->" marks one that waits.
            fields = line.split()
            if fields[1] != "->" and int(fields[5].rpartition(":")[2]) in inodes and int(fields[4]) != os.getpid():
                found[int(fields[4])] = found.get(int(fields[4]), False) or fields[3] == "WRITE"
    except (OSError, ValueError, IndexError):
        pass
    writers = [pid for pid, writes in found.items() if writes] or list(found)
    return ", ".join(f"process {pid} ({_name(pid)})" for pid in sorted(writers)) or "another program"


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "ended"
