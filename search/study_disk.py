"""Where a run's study is while a search writes it: in the run's directory, or on a disk of the driver's own machine.

SQLite cannot be trusted with a file that several machines share. If the run's directory is on such a file system, the search writes a working
copy elsewhere and copies it whole into the directory, every ten seconds and at each trial's end. Readers see the last copy. If the driver's machine is
lost with its disk, a search on another one goes on from there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from results.database import Patience
from results.records import check_database
from results.run_directory import RunDirectory, RunError
from search.lease import RENEWED, Holder, Lease, TakenOver
from search.observer import Observer
from spaces.disk import is_shared
from spaces.files import write

logger = logging.getLogger(__name__)

PLACE = "PSF_SEARCH_STUDY_DIR"
"""Environment variable: a directory on the driver's own disk for working copies, whatever the run's is on."""


def working_place(run: RunDirectory) -> Path | None:
    """Where the working copy of a run's study is; None: it is written in the run's directory."""
    home = os.environ.get(PLACE)
    if not home and not is_shared(run.path):
        return None
    place = Path(home) if home else Path(tempfile.gettempdir(), f"psf-search-{os.getuid()}")
    digest = hashlib.sha256(str(run.path.resolve()).encode()).hexdigest()[:12]
    return place.absolute() / f"{run.name}-{digest}" / run.study_db.name


class StudyDisk(Observer):
    """The study's file, which `url` is the address of, and its copies. It hears of the trials that end."""

    def __init__(self, run: RunDirectory, lease: Lease, working: Path | None, said: Callable[[str], None]) -> None:
        self._run, self._lease, self._working, self._said = run, lease, working, said
        self.path = (working or run.study_db).resolve()
        self.on_loss: Callable[[RunError], None] = lambda error: None
        """Called, from another thread, if another driver has the run now. Then `check`: it may have it already."""
        self._copied: tuple[int, int] | None = None
        self._wake, self._ended = threading.Event(), False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="study", daemon=True)

    @property
    def url(self) -> str:
        """SQLAlchemy's address."""
        return f"sqlite:///{self.path}"

    def begin(self, previous: Holder | None) -> None:
        """Have the study as the last driver left it, and keep it from now on."""
        self._fetch(previous)
        self._lease.works_on(self._working)  # not before it is whole
        self._thread.start()

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        self._wake.set()

    def check(self) -> None:
        """Raises TakenOver: another driver has the run."""
        self._lease.check()

    def copy(self) -> None:
        """Bring the run's directory up to date.

        Raises:
            TakenOver: another driver has the run, which so keeps it.
            OSError: the copy cannot be written.
        """
        self._lease.check()
        if self._working is None or not self.path.exists():
            return
        with self._writing:
            if (state := _state(self.path)) == self._copied:
                return
            data = _whole(self.path)
            self._lease.check()  # again, as late as can be
            _publish(self._run.study_db, data)
            self._copied = state

    def close(self) -> None:
        """Bring the run's directory up to date, and let go of the run. Call it when nobody writes the study any more."""
        self._ended = True
        self._wake.set()
        self._thread.join()
        self._copied = None  # two changes at a tick of the disk's clock look like one
        try:
            self.copy()
            self._lease.give_back()
        except TakenOver:
            return  # which was said
        except OSError as error:
            self._said(f"warning: the study could not be copied to {self._run.path}: {error}; it is in {self.path}")
            return
        if self._working is not None:
            shutil.rmtree(self._working.parent, ignore_errors=True)

    def _fetch(self, previous: Holder | None) -> None:
        source = self._run.study_db
        if previous is not None and previous.here and previous.study is not None and Path(previous.study).exists():
            source = Path(previous.study)  # later than the last copy
            try:
                check_database(source)
            except RunError as error:
                self._said(f"warning: {error}; going on from the last copy in {self._run.path}")
                source = self._run.study_db
        if source.resolve() == self.path:
            return
        if self._working is not None:
            shutil.rmtree(self._working.parent, ignore_errors=True)  # of an earlier driver
            self._working.parent.mkdir(parents=True)
        if source.exists():
            check_database(source)
            _publish(self.path, _whole(source))

    def _keep(self) -> None:
        failing = False
        while not self._ended:
            try:
                self._lease.renew()
                self.copy()
                failing = False
            except TakenOver as error:
                self.on_loss(error)
                return
            except (OSError, sqlite3.Error) as error:  # the next one may go
                if not failing:
                    self._said(f"warning: the study cannot be copied to {self._run.path} for now: {error}")
                failing = True
                logger.warning("no copy of the study: %s", error)
            self._wake.wait(RENEWED)
            self._wake.clear()


@contextmanager
def study_disk(run: RunDirectory, said: Callable[[str], None]) -> Iterator[StudyDisk]:
    """The study of a run that this process has the lock of.

    Raises:
        RunError: a driver on another machine has the run, or the study is damaged.
    """
    working = working_place(run)
    lease = Lease(run.lease)
    disk = StudyDisk(run, lease, working, said)
    disk.begin(lease.take(working is None, said))  # else other machines may have it, which the run's lock does not know
    try:
        yield disk
    finally:
        disk.close()


def _state(path: Path) -> tuple[int, int]:
    """What changes with every commit: the database's and its log's times of change."""
    log = path.with_name(path.name + "-wal")
    return path.stat().st_mtime_ns, log.stat().st_mtime_ns if log.exists() else 0


def _whole(path: Path) -> bytes:
    """A database as one file that needs no log beside it, while others write to it."""
    with tempfile.TemporaryDirectory(dir=path.parent if os.access(path.parent, os.W_OK) else None) as directory:
        copy = Path(directory, path.name)
        with closing(Patience(path).connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")
        return copy.read_bytes()


def _publish(path: Path, data: bytes) -> None:
    for suffix in ("-wal", "-shm"):  # of a search that wrote here; its log is in `data`
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    write(path, data)
