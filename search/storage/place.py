"""What `--out` and `--cache` name: a directory, or a bucket and the directory of this machine that is worked in."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from results.run_directory import NAME, RunDirectory
from results.run_directory import find as find_run
from search.storage.bucket import Bucket, BucketError, is_url
from search.storage.mirror import Mirror
from search.storage.own_disk import own_disk
from spaces.errors import SpaceError, near
from spaces.files import locked


@dataclass(frozen=True)
class Kept:
    """A run that is there: its directory, and the copy in a bucket if that is where it is kept."""

    directory: RunDirectory
    mirror: Mirror | None = None

    def __str__(self) -> str:
        return str(self.directory.path) if self.mirror is None else self.mirror.url


@dataclass(frozen=True)
class Place:
    """Where runs, or prepared data, are kept: the directory that is worked in, and the bucket that has its copies, if any."""

    path: Path
    bucket: Bucket | None = None

    @classmethod
    def of_runs(cls, named: str | Path) -> Self:
        """Raises SpaceError: it is neither a path nor an address of a bucket."""
        if not is_url(str(named)):
            return cls(Path(named))
        bucket = Bucket.parse(str(named))
        digest = hashlib.sha256(str(bucket).encode()).hexdigest()[:12]
        return cls(own_disk() / f"{bucket.name}-{digest}", bucket)

    @classmethod
    def of_data(cls, named: str | Path) -> Self:
        """The same; as entries have the names of their content, those of all buckets are in one directory."""
        if not is_url(str(named)):
            return cls(Path(named))
        return cls(own_disk() / "cache", Bucket.parse(str(named)))

    def __str__(self) -> str:
        """As it is given on a command line."""
        return str(self.bucket or self.path)

    def free(self, name: str) -> Mirror | None:
        """The copy that a new run will have; None: its directory is all.

        Raises:
            SpaceError: the bucket has a run of that name, or cannot be used.
            RunError: what it has is damaged.
        """
        if self.bucket is None:
            return None
        mirror = Mirror(self.bucket / name)
        with telling(str(self.bucket)):
            mirror.read()
        if RunDirectory(Path(name)).record.name in mirror.files:
            raise SpaceError(f"--name {name}: {mirror.url} exists; choose another, or --resume {name}")
        return mirror

    def find(self, run: str) -> Kept:
        """A run by name, path or address.

        Raises:
            SpaceError: there is no such run, or the bucket cannot be used.
            RunError: the copy is damaged.
        """
        if is_url(run):
            bucket = Bucket.parse(run)
            return Place.of_runs(str(bucket.parent)).find(bucket.prefix.rpartition("/")[2])
        if self.bucket is None:
            return Kept(find_run(run, self.path))
        if NAME.fullmatch(run) and (found := self.named(run)) is not None:
            return found
        with telling(str(self.bucket)):
            names = self.bucket.names()
        hint = near(run, names) or f"valid: {', '.join(names)}" if names else "there is no run"
        raise SpaceError(f"{run}: no such run in {self.bucket.url}; {hint}")

    def named(self, name: str) -> Kept | None:
        """The run of a name, its directory made what the copy is unless it is later; None: there is none.

        Raises:
            SpaceError, RunError: as `find`.
        """
        directory = RunDirectory(self.path / name)
        if self.bucket is None:
            return Kept(directory) if directory.record.exists() else None
        mirror = Mirror(self.bucket / name)
        with telling(str(self.bucket)):
            self._bring(directory, mirror)
        return Kept(directory, mirror) if directory.record.exists() else None

    def check(self, option: str) -> None:
        """See that the bucket can be used, if there is one.

        Raises:
            SpaceError: it cannot.
        """
        if self.bucket is not None:
            with telling(f"{option} {self.bucket}"):
                self.bucket.check()

    def _bring(self, directory: RunDirectory, mirror: Mirror) -> None:
        from search.storage.bucket_copy import beside, copied, is_later  # which reads studies, with Optuna
        from search.storage.lease_object import LeaseObject

        mirror.read()
        if directory.record.name not in mirror.files or is_later(directory, LeaseObject(mirror.bucket).holder()):
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / f".{directory.name}.fetch"), directory.lock():
            mirror.fetch(directory.path, [*copied(directory), *beside(directory)])


@contextmanager
def telling(where: str) -> Iterator[None]:
    """What a bucket refuses, as a line for the user.

    Raises:
        SpaceError: the bucket cannot be used.
    """
    try:
        yield
    except BucketError as error:
        raise SpaceError(f"{where}: {error}") from None


def here(run: str) -> str:
    """A run by name or path, for what knows these alone: the directory of one that is named by its address in a bucket.

    Raises:
        SpaceError, RunError: as `Place.find`.
    """
    if not is_url(run):
        return run
    directory = Place.of_runs(run).find(run).directory
    print(f"{run}: copied to {directory.path}", file=sys.stderr)
    return str(directory.path)
