"""The study of a run while a search writes it, and what keeps the run's copy up to date.

Every ten seconds and at each trial's end the copy is brought up to date (search/storage/run_copy.py), while the lease of the run is held. Readers
see the last copy. If the driver's machine is lost with its disk, a search on another one goes on from there.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from results.run_directory import RunError
from search.lease import RENEWED, Holder, Lease, TakenOver
from search.observer import Observer
from search.storage.run_copy import RunCopy

logger = logging.getLogger(__name__)


class StudyDisk(Observer):
    """The study's file, which `url` is the address of, and its copies. It hears of the trials that end."""

    def __init__(self, copy: RunCopy, lease: Lease, said: Callable[[str], None]) -> None:
        self._copy, self._lease, self._said = copy, lease, said
        self.path = copy.study
        self.on_loss: Callable[[RunError], None] = lambda error: None
        """Called, from another thread, if another driver has the run now. Then `check`: it may have it already."""
        self._wake, self._ended = threading.Event(), False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="study", daemon=True)

    @property
    def url(self) -> str:
        """SQLAlchemy's address."""
        return f"sqlite:///{self.path}"

    def begin(self, previous: Holder | None) -> None:
        """Have the study as the last driver left it, and keep it from now on."""
        self._copy.begin(previous, self._said)
        self._lease.works_on(self._copy.working)  # not before it is whole
        self._thread.start()

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        self._wake.set()

    def check(self) -> None:
        """Raises TakenOver: another driver has the run."""
        self._lease.check()

    def copy(self) -> None:
        """Bring the study in the run's directory up to date.

        Raises:
            TakenOver: another driver has the run, which so keeps it.
            OSError: the copy cannot be written.
        """
        self._update()

    def close(self) -> None:
        """Bring the copy up to date, and let go of the run. Call it when nobody writes the study any more.

        Raises:
            TakenOver: another driver has the run, which so keeps it.
        """
        self._ended = True
        self._wake.set()
        self._thread.join()
        self._copy.forget()
        try:
            while self._update():
                self._lease.renew()
            self._lease.give_back()
        except (OSError, sqlite3.Error) as error:
            self._said(f"warning: the study could not be copied to {self._copy.place}: {error}; it is in {self.path}")
            return
        self._copy.end()

    def _update(self) -> bool:
        """Whether more is to do."""
        self._lease.check()
        with self._writing:
            return self._copy.update(self._lease.check)

    def _keep(self) -> None:
        failing = False
        while not self._ended:
            more = False
            try:
                self._lease.renew()
                more = self._update()
                failing = False
            except TakenOver as error:
                self.on_loss(error)
                return
            except (OSError, sqlite3.Error) as error:  # the next one may go
                if not failing:
                    self._said(f"warning: the study cannot be copied to {self._copy.place} for now: {error}")
                failing = True
                logger.warning("no copy of the study: %s", error)
            if not more:
                self._wake.wait(RENEWED)
            self._wake.clear()


@contextmanager
def study_disk(copy: RunCopy, said: Callable[[str], None]) -> Iterator[StudyDisk]:
    """The study of a run that this process has the lock of.

    Raises:
        RunError: a driver on another machine has the run, or has taken it over meanwhile, or the study is damaged.
    """
    lease = Lease(copy.lease)
    disk = StudyDisk(copy, lease, said)
    disk.begin(lease.take(copy.alone, said))  # else other machines may have it, which the run's lock does not know
    try:
        yield disk
    except BaseException:
        with suppress(TakenOver):  # which may be what is told already
            disk.close()
        raise
    disk.close()
