"""Image sets on disk, in the cache that searches share, found by the hash of everything that determines them.

    <cache>/<key>/images.npy     uint8 [N, C, H, W], memory-mapped by readers
                  labels.npy     uint8 [N]
                  manifest.json  parameters, shapes and checksums; its mtime is the entry's last use

As every entry of the cache (docs/cache.md) one appears by a rename, while the cache's lock is held: complete or not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTIAL = ".partial-"
ARRAYS = ("images", "labels")


class DamagedSet(Exception):
    """An image set that is incomplete or does not match its checksums; the message names the file."""


def key(parameters: dict[str, Any]) -> str:
    """64 hex digits: the hash of what determines a set."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()


def write(cache: Path, parameters: dict[str, Any], arrays: dict[str, NDArray[np.uint8]]) -> Path:
    """Add a set and return its directory; if another process was faster, its equal set is kept.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    cache.mkdir(parents=True, exist_ok=True)
    entry = cache / key(parameters)
    with _locked(cache, fcntl.LOCK_SH):
        temporary = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=cache))
        try:
            _write_files(temporary, parameters, arrays)
            try:
                temporary.rename(entry)
            except OSError:
                if not entry.is_dir():
                    raise
            _sync(cache)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return entry


def read(entry: Path) -> dict[str, NDArray[np.uint8]]:
    """The arrays of a set, memory-mapped. What a reader writes to them stays its own."""
    return {name: np.load(entry / f"{name}.npy", mmap_mode="c") for name in ARRAYS}


def parameters(entry: Path) -> dict[str, Any]:
    """What determined a set."""
    found: dict[str, Any] = json.loads((entry / "manifest.json").read_text())["parameters"]
    return found


def verify(entry: Path) -> None:
    """Check that a set is complete, matches its checksums and has the name that its parameters hash to.

    Raises:
        DamagedSet: it does not.
    """
    try:
        content = json.loads((entry / "manifest.json").read_text())
        if key(content["parameters"]) != entry.name:
            raise DamagedSet(f"{entry}: its parameters hash to another name")
        for name in ARRAYS:
            if _sha256(entry / f"{name}.npy") != content["files"][name]["sha256"]:
                raise DamagedSet(f"{entry / name}.npy does not match its checksum")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedSet(f"{entry}: {type(error).__name__}: {error}") from None


def discard(entry: Path) -> None:
    """Remove a set if it is damaged. It is checked again, because another process may have made it anew."""
    with _locked(entry.parent, fcntl.LOCK_EX):
        try:
            verify(entry)
        except DamagedSet:
            grave = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=entry.parent))
            with suppress(FileNotFoundError):
                entry.rename(grave)
            shutil.rmtree(grave, ignore_errors=True)


@contextmanager
def _locked(cache: Path, operation: int) -> Iterator[None]:
    """Hold the cache's lock; the kernel releases it when the process ends, however it ends."""
    handle = os.open(cache / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, operation)
        yield
    finally:
        os.close(handle)


def _write_files(directory: Path, parameters: dict[str, Any], arrays: dict[str, NDArray[np.uint8]]) -> None:
    """Write a set's files and force them to the disk."""
    for name in ARRAYS:
        np.save(directory / f"{name}.npy", arrays[name])
    files = {
        name: {
            "shape": list(arrays[name].shape),
            "dtype": str(arrays[name].dtype),
            "sha256": _sha256(directory / f"{name}.npy"),
        }
        for name in ARRAYS
    }
    manifest = {"parameters": parameters, "files": files}
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    directory.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from other users
    for path in (*directory.iterdir(), directory):
        _sync(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Force a file or a directory to the disk: after a power cut a renamed set has its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
