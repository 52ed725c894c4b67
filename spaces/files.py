"""Files that are whole or absent, whatever happens to their writer; and locks that end with their process."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spaces.disk import written


@contextmanager
def replacing(path: Path, size: int | None = None) -> Iterator[Path]:
    """A path to write to, which becomes `path` when the block ends well; else nothing is left of it.

    Readers see the old file or the new one, never a part, also after a power cut. A writer that is killed leaves a hidden
    file `.TOKEN.NAME`; processes of several containers may have one number, so that does not tell them apart.

    Args:
        size: in bytes, where it is known.

    Raises:
        OSError: the disk is full or not writable.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    try:
        with written(path, size):
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write a file in one step, as `replacing` does."""
    with replacing(path, len(data)) as temporary:
        temporary.write_bytes(data)


def sync(path: Path) -> None:
    """Force a file or a directory to the disk: after a power cut a renamed one has its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, exclusive: bool = True, wait: bool = True) -> Iterator[int]:
    """Hold a lock on a file, made if need be; its descriptor. The kernel releases it when the process ends, however it ends.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: it can be neither made nor read.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        if exclusive:
            raise
        handle = os.open(path, os.O_RDONLY)  # of another user, or on a read-only disk
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        yield handle
    finally:
        os.close(handle)
