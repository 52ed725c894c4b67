"""Where a run's copy lives: in the run's directory itself, of a study that is written on another disk, or in a bucket."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from results.database import Patience
from results.records import check_database
from results.run_directory import RunDirectory, RunError
from search.lease import Holder, LeaseFile, LeaseStore
from search.storage.own_disk import OWN_DISK, own_disk
from spaces.disk import is_shared
from spaces.files import write


class RunCopy(ABC):
    """What of a run is kept besides what its search works with, so that another machine can go on with it."""

    study: Path
    """The file that the search writes its study to."""
    place: str
    """Where the copy is, for messages."""
    lease: LeaseStore
    """Of the driver that may write the copy."""
    alone: bool
    """No other machine can have the run, so that its own lock is enough."""

    @abstractmethod
    def begin(self, previous: Holder | None, said: Callable[[str], None]) -> None:
        """Have the study as the last driver left it. Call it with the lease held.

        Args:
            previous: who had the lease last and did not give it back.
            said: told of what could not be gone on with.

        Raises:
            RunError: the study is damaged, or the copy has been changed meanwhile.
        """

    @property
    @abstractmethod
    def working(self) -> Path | None:
        """Where the study is that is later than the copy, see `Holder`."""

    @abstractmethod
    def update(self, check: Callable[[], None]) -> bool:
        """Bring the copy up to date, or nearer to it; whether more is to do.

        Args:
            check: raises if another driver has the run; called as late as can be.

        Raises:
            OSError: the copy cannot be written.
        """

    @abstractmethod
    def forget(self) -> None:
        """Look at everything the next time: two changes at a tick of the disk's clock look like one."""

    @abstractmethod
    def end(self) -> None:
        """The copy is up to date and nobody writes any more."""


class DirectoryCopy(RunCopy):
    """The study is in the run's directory, or on a disk of the driver's own and copied there.

    SQLite cannot be trusted with a file that several machines share.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run, self.place = run, str(run.path)
        self._working = _working_place(run)
        self.study = (self._working or run.study_db).resolve()
        self.lease = LeaseFile(run.lease)
        self.alone = self._working is None
        self._copied: tuple[int, int] | None = None

    @property
    def working(self) -> Path | None:
        return self._working

    def begin(self, previous: Holder | None, said: Callable[[str], None]) -> None:
        source = self._run.study_db
        if previous is not None and previous.here and previous.study is not None and Path(previous.study).exists():
            source = Path(previous.study)  # later than the last copy
            try:
                check_database(source)
            except RunError as error:
                said(f"warning: {error}; going on from the last copy in {self._run.path}")
                source = self._run.study_db
        if source.resolve() == self.study:
            return
        if self._working is not None:
            shutil.rmtree(self._working.parent, ignore_errors=True)  # of an earlier driver
            self._working.parent.mkdir(parents=True)
        if source.exists():
            check_database(source)
            _publish(self.study, snapshot(source))

    def update(self, check: Callable[[], None]) -> bool:
        if self._working is None or not self.study.exists() or (state := state_of(self.study)) == self._copied:
            return False
        data = snapshot(self.study)
        check()
        _publish(self._run.study_db, data)
        self._copied = state
        return False

    def forget(self) -> None:
        self._copied = None

    def end(self) -> None:
        if self._working is not None:
            shutil.rmtree(self._working.parent, ignore_errors=True)


def state_of(database: Path) -> tuple[int, int]:
    """What changes with every commit: the database's and its log's times of change."""
    log = database.with_name(database.name + "-wal")
    return database.stat().st_mtime_ns, log.stat().st_mtime_ns if log.exists() else 0


def snapshot(database: Path) -> bytes:
    """A database as one file that needs no log beside it, while others write to it."""
    beside = database.parent if os.access(database.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=beside, prefix=".snapshot-") as directory:  # hidden: it is no part of a run
        copy = Path(directory, database.name)
        with closing(Patience(database).connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
        return copy.read_bytes()


def _working_place(run: RunDirectory) -> Path | None:
    """Where the working copy of a run's study is; None: it is written in the run's directory."""
    if not os.environ.get(OWN_DISK) and not is_shared(run.path):
        return None
    digest = hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:12]
    return own_disk() / f"{run.name}-{digest}" / run.study_db.name


def _publish(path: Path, data: bytes) -> None:
    for suffix in ("-wal", "-shm"):  # of a search that wrote here; its log is in `data`
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    write(path, data)
