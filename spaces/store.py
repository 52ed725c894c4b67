"""Prepared data on disk, found by the hash of everything that determines it (docs/cache.md).

    <cache>/
        <key>/       an entry: .npy files, memory-mapped by readers, and manifest.json with what determines them and checksums;
                     the manifest's mtime is the entry's last use
        .partial-*/  an entry that is being written or removed
        lock         held (flock) shared to write or verify, exclusively to remove

An entry appears and disappears by a rename, so it is complete or absent. Whoever holds the lock exclusively knows that no
writer lives, so every `.partial-*` is what a killed process has left. Readers need no lock: what they have mapped stays.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.disk import written
from spaces.files import locked, sync

LIMIT = 10 * 2**30  # bytes: 10 GiB
_KEY = re.compile("[0-9a-f]{64}")
_PARTIAL = ".partial-"


class CorruptEntry(Exception):
    """A cache entry that is incomplete or fails its checksums; the message names the file."""


@dataclass(frozen=True)
class Entry:
    """One entry on disk: `size` in bytes, `last_use` in seconds since the epoch."""

    path: Path
    size: int
    last_use: float


def key(parameters: Mapping[str, Any]) -> str:
    """Content hash (64 hex digits) of all that determines an entry: plain JSON values."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()


def write(
    cache: Path,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    about: Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
) -> Path:
    """Add an entry and return its directory; if another process was faster, its equal entry is kept.

    Args:
        about: more of the manifest, for people.
        units: of the arrays, by name.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    return _add(
        cache, key(parameters), lambda directory: _write_files(directory, parameters, arrays, about or {}, units or {})
    )


def take_over(cache: Path, name: str, copy: Callable[[Path], None]) -> Path:
    """Add an entry that was made elsewhere and return its directory.

    Args:
        name: its key.
        copy: puts its files into a directory.

    Raises:
        CorruptEntry: what was put there is not that entry; nothing is left behind.
        OSError: as `write`.
    """

    def checked(directory: Path) -> None:
        copy(directory)
        _check(directory, name)

    return _add(cache, name, checked)


def _add(cache: Path, name: str, fill: Callable[[Path], None]) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    with suppress(BlockingIOError), _lock(cache, exclusive=True, wait=False):
        _sweep(cache)
    entry = cache / name
    with _lock(cache, exclusive=False):
        temporary = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=cache))
        try:
            fill(temporary)
            temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from other users
            for path in (*temporary.iterdir(), temporary):
                sync(path)
            try:
                temporary.rename(entry)
            except OSError:
                if not entry.is_dir():
                    raise
                _record_use(entry)
            sync(cache)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return entry


def read(entry: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Arrays of an entry by name, memory-mapped and read-only; now is its last use. They outlive the entry's removal.

    Raises:
        FileNotFoundError: there is no such entry (any more).
    """
    _record_use(entry)
    return {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in names}


def manifest(entry: Path) -> dict[str, Any]:
    """The manifest of an entry (docs/cache.md has its keys).

    Raises:
        CorruptEntry: it is missing or not a JSON object.
    """
    try:
        content = json.loads((entry / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise CorruptEntry(f"{entry / 'manifest.json'}: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise CorruptEntry(f"{entry / 'manifest.json'} is not a JSON object")
    return content


def verify(entry: Path) -> None:
    """Check that an entry is complete, matches its checksums and has the name that its parameters hash to.

    Raises:
        CorruptEntry: it does not, or is no cache entry at all.
    """
    if not entry.parent.is_dir():
        raise CorruptEntry(f"{entry}: no such entry")
    with _lock(entry.parent, exclusive=False):
        _check(entry, entry.name)


def discard(entry: Path) -> None:
    """Remove an entry if it is corrupt. It is checked again, because another process may have made it anew."""
    with _lock(entry.parent, exclusive=True):
        try:
            _check(entry, entry.name)
        except CorruptEntry:
            _remove(entry)


def drop_if_corrupt(entry: Path) -> str | None:
    """Take a corrupt entry out of its cache; a warning that says so."""
    if not entry.exists():
        return None
    try:
        verify(entry)
    except CorruptEntry as error:
        discard(entry)
        return f"corrupt cache entry made again: {error}"
    return None


def entries(cache: Path) -> list[Entry]:
    """Every entry, least recently used first: directories named by 64 hex digits with a manifest. None if no cache."""
    found = []
    for path in cache.glob("*"):
        if _KEY.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            with suppress(FileNotFoundError):  # no manifest, or removed meanwhile
                last_use = (path / "manifest.json").stat().st_mtime
                found.append(Entry(path, sum(file.stat().st_size for file in path.iterdir()), last_use))
    return sorted(found, key=lambda entry: (entry.last_use, entry.path.name))


def foreign(cache: Path) -> list[Path]:
    """What lies in a directory and is not a cache's: visible, and neither an entry nor the lock."""
    ours = {"lock", *(entry.path.name for entry in entries(cache))}
    others = [path for path in cache.glob("*") if path.name not in ours and not path.name.startswith(".")]
    return sorted(path for path in others if path.exists())


def evict(cache: Path, limit: int = LIMIT, keep: Iterable[Path] = ()) -> list[Entry]:
    """Remove the least recently used entries until all together have at most `limit` bytes, and return them.

    Args:
        cache: directory of cache entries; a missing one is empty.
        limit: in bytes.
        keep: entries in use. Now is their last use; they count, but are never removed, even if they exceed the limit.
    """
    kept = {entry.name for entry in keep}
    for name in kept:
        _record_use(cache / name)

    def excess(present: list[Entry]) -> list[Entry]:
        size, chosen = sum(entry.size for entry in present), []
        for entry in present:
            if size > limit and entry.path.name not in kept:
                chosen.append(entry)
                size -= entry.size
        return chosen

    # Without the lock at first: a search whose cache is not full waits for nobody.
    return _remove_chosen(cache, excess) if excess(entries(cache)) else []


def expire(cache: Path, before: float) -> list[Entry]:
    """Remove the entries whose last use was before a time (seconds since the epoch), and return them."""
    return _remove_chosen(cache, lambda present: [entry for entry in present if entry.last_use < before])


def _remove_chosen(cache: Path, choose: Callable[[list[Entry]], list[Entry]]) -> list[Entry]:
    """Remove what `choose` picks, except what belongs to another user, and what killed processes have left."""
    if not cache.is_dir() or not os.access(cache, os.W_OK):
        return []
    with _lock(cache, exclusive=True):
        _sweep(cache)
        chosen = [entry for entry in choose(entries(cache)) if os.access(entry.path, os.W_OK)]
        for entry in chosen:
            _remove(entry.path)
    return chosen


def _remove(entry: Path) -> None:
    """Out of sight by a rename, then from the disk. Call it with the lock held exclusively."""
    grave = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=entry.parent))
    try:
        with suppress(FileNotFoundError):
            entry.rename(grave)
    finally:
        shutil.rmtree(grave, ignore_errors=True)


def _sweep(cache: Path) -> None:
    """Remove what killed processes have left. Call it with the lock held exclusively."""
    for path in cache.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(cache: Path, *, exclusive: bool, wait: bool = True) -> Iterator[None]:
    with locked(cache / "lock", exclusive=exclusive, wait=wait):
        yield


def _record_use(entry: Path) -> None:
    with suppress(OSError):  # of another user, on a read-only disk, or gone: nothing that stops a reader
        os.utime(entry / "manifest.json")


def _check(entry: Path, name: str) -> None:
    """Raises CorruptEntry as `verify` does of an entry of that name. Call it with the lock held."""
    content = manifest(entry)
    try:
        for array, file in content["files"].items():
            if _sha256(entry / f"{array}.npy") != file["sha256"]:
                raise CorruptEntry(f"{entry / array}.npy does not match its checksum")
        if key(content["parameters"]) != name:
            raise CorruptEntry(f"{entry}: its parameters hash to another name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptEntry(f"{entry}: {type(error).__name__}: {error}") from None


def _write_files(
    directory: Path,
    parameters: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    about: Mapping[str, Any],
    units: Mapping[str, str],
) -> None:
    """Write an entry's files."""
    files = {}
    for name, array in arrays.items():
        with written(directory / f"{name}.npy", array.nbytes):
            np.save(directory / f"{name}.npy", array)
        unit = {"unit": units[name]} if name in units else {}
        digest = _sha256(directory / f"{name}.npy")
        files[name] = {"shape": list(array.shape), "dtype": str(array.dtype), **unit, "sha256": digest}
    content = {**about, "parameters": parameters, "files": files}
    with written(directory / "manifest.json"):
        (directory / "manifest.json").write_text(json.dumps(content, indent=2) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
