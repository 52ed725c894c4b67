"""Prepared data in a bucket: an entry of the cache is fetched where the bucket has it, and put there where it has not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from search.storage.bucket import BucketError, Changed
from search.storage.mirror import DamagedCopy, Mirror
from search.storage.place import Place
from spaces import store


@contextmanager
def shared_entries(cache: Place, entries: Iterable[Path], said: Callable[[str], None]) -> Iterator[None]:
    """Around what makes entries: those that the bucket of the cache has are there before, and it has all of them after.

    The block makes what could not be fetched.

    Args:
        said: told of trouble with the bucket.
    """
    if cache.bucket is None:
        yield
        return
    mirrors = {entry: Mirror(cache.bucket / entry.name) for entry in entries}
    missing = [entry for entry, mirror in mirrors.items() if not _fetch(entry, mirror, said)]
    yield
    for entry in missing:
        _share(entry, mirrors[entry], said)


def _fetch(entry: Path, mirror: Mirror, said: Callable[[str], None]) -> bool:
    """Have the entry here if the bucket has it; whether it has."""
    try:
        if not mirror.read():
            return False
        if not entry.is_dir():
            store.take_over(entry.parent, entry.name, mirror.fetch)
        return True
    except (DamagedCopy, store.CorruptEntry) as error:
        said(f"warning: {error}; the data is made again, and put in its place")
        mirror.doubt()
    except BucketError as error:
        said(f"warning: prepared data cannot be fetched from {mirror.url}: {error}")
    return False


def _share(entry: Path, mirror: Mirror, said: Callable[[str], None]) -> None:
    try:
        mirror.publish({path.name: mirror.put(path) for path in sorted(entry.iterdir())})
    except Changed:
        return  # somebody else was faster
    except BucketError as error:
        said(f"warning: prepared data cannot be copied to {mirror.url}: {error}")
