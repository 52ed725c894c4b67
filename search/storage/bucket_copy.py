"""A run's copy in a bucket: the study and what is short at each update, then checkpoints, then all else, only what has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from results.records import check_database
from results.run_directory import RunDirectory, RunError
from search.lease import RENEWED, Holder, TakenOver
from search.storage.bucket import Changed
from search.storage.lease_object import LeaseObject
from search.storage.mirror import Mirror
from search.storage.run_copy import DirectoryCopy, RunCopy, snapshot, state_of


def beside(run: RunDirectory) -> list[str]:
    """Names of what SQLite has beside the study, which is in a snapshot of it."""
    return [f"{run.study_db.name}-{log}" for log in ("wal", "shm")]


def copied(run: RunDirectory) -> Iterator[str]:
    """Names of the files of a run that a copy has: all but locks, what is being written, and Ray's own files."""
    left_out = {run.lock_file, run.lease, run.tune, run.lanes, *(run.path / name for name in beside(run))}
    for directory, folders, files in run.path.walk():
        folders[:] = [name for name in folders if directory / name not in left_out and not name.startswith(".")]
        for name in files:
            if directory / name not in left_out and not name.startswith("."):
                yield (directory / name).relative_to(run.path).as_posix()


def is_later(run: RunDirectory, holder: Holder | None) -> bool:
    """Whether the run's directory here is later than its copy: its driver has not given the run back, and is or was here."""
    if holder is None or not holder.here or holder.study != str(run.study_db.resolve()):
        return False
    try:
        check_database(run.study_db)
    except RunError:
        return False
    return run.record.exists()


class BucketCopy(RunCopy):
    """The copy of a run whose directory is on this machine's own disk.

    Args:
        mirror: as it was read when the run was planned.
    """

    def __init__(self, run: RunDirectory, mirror: Mirror) -> None:
        self._run, self._mirror, self.place = run, mirror, mirror.url
        self.study = run.study_db.resolve()
        self.lease = LeaseObject(mirror.bucket)
        self.alone = False
        self._files = dict(mirror.files)
        """What the next manifest will list."""
        self._seen: dict[str, tuple[int, int]] = {}
        """Files as they were when they were put."""

    @property
    def working(self) -> Path | None:
        return self.study

    def begin(self, previous: Holder | None, said: Callable[[str], None]) -> None:
        try:
            self._mirror.publish(self._mirror.files)  # what an earlier driver still sends is refused from now on
        except Changed:
            raise RunError(f"{self.place}: another search has written to this run meanwhile; start again") from None
        self._mirror.sweep()

    def update(self, check: Callable[[], None]) -> bool:
        began = time.monotonic()
        states = {name: self._state(name) for name in copied(self._run)}
        changed = [name for name, state in states.items() if state != self._seen.get(name)]
        changed.sort(
            key=lambda name: (self._kind(name), states[name])
        )  # so a checkpoint's JSON comes after its tensors
        while changed and (self._kind(changed[0]) == 0 or time.monotonic() - began < RENEWED):
            name = changed.pop(0)
            with suppress(FileNotFoundError):  # a checkpoint that has just been deleted
                path = self._run.path / name
                self._files[name] = self._mirror.put(
                    snapshot(path) if path == self._run.study_db else path.read_bytes()
                )
                self._seen[name] = states[name]
        if not changed:  # else what is gone may not have been replaced
            self._files = {name: one for name, one in self._files.items() if name in states}
        if self._files != self._mirror.files:
            check()
            try:
                self._mirror.publish(self._files)
            except Changed:
                check()
                raise TakenOver(
                    f"{self.place}: its manifest.json has been written by another program; this one ends"
                ) from None
        return bool(changed)

    def forget(self) -> None:
        self._seen = {}

    def end(self) -> None:
        """The directory stays: it is what is shown now."""

    def _state(self, name: str) -> tuple[int, int]:
        """Its time of change, and what else tells that it has been written to."""
        path = self._run.path / name
        with suppress(FileNotFoundError):
            return state_of(path) if path == self._run.study_db else (path.stat().st_mtime_ns, path.stat().st_size)
        return 0, 0

    def _kind(self, name: str) -> int:
        """0: short, or waited for. 1: checkpoints. 2: all else. 3: the summary, whose presence says that the run has ended."""
        if name == self._run.summary.name:
            return 3
        folder, below, _ = name.partition("/")
        return 2 if below and folder not in (self._run.trials.name, self._run.finalists.name) else int(bool(below))


def copy_of(run: RunDirectory, mirror: Mirror | None) -> RunCopy:
    """Where a run's copy lives."""
    return DirectoryCopy(run) if mirror is None else BucketCopy(run, mirror)
