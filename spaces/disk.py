"""A full disk, told in one line: whatever was being written, and by whichever library."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How libraries say it: of the system's calls, of SQLite, and of NumPy, which has no number for it.
SAID = re.compile(
    r"(?:No space left on device|Disk quota exceeded)(?:: '(?P<path>[^']+)')?|disk is full|\d+ requested and \d+ written"
)
LITTLE = 2**16
"""Bytes: SQLite says "disk I/O error" where there is less than that."""


class NoSpace(OSError):
    """A file of `size` bytes found no space."""

    size: int


@contextmanager
def written(path: Path, size: int | None = None) -> Iterator[None]:
    """Gives an error of what is written in the block the name of its file, which only `open` knows.

    Raises:
        OSError: with its `filename`.
    """
    try:
        yield
    except OSError as error:
        if SAID.search(str(error)) is not None and size is not None:
            named = NoSpace(errno.ENOSPC, "No space left on device", str(path))
            named.size = size
            raise named from error
        error.filename = error.filename or str(path)
        raise


def full_disk(error: BaseException, path: Path | None = None) -> str | None:
    """The line for the user if a full disk is behind an error, or behind what that was raised for; else None.

    Args:
        path: where, unless the error says so.
    """
    one: BaseException | None = error
    said, size = None, None
    while one is not None:
        if (found := SAID.search(str(one))) is not None:
            said, size = found, getattr(one, "size", size)
            path = Path(getattr(one, "filename", None) or found["path"] or path or ".")
        one = one.__cause__ or one.__context__
    return None if said is None or path is None else no_space(path, size)


def no_space(path: Path, size: int | None = None) -> str:
    """That a file, or what is to lie in a folder, found no space, and on which disk."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    mount = next(one for one in (there, *there.parents) if one.is_mount())
    needed = "" if size is None else f", {_megabytes(size)} needed"
    free = _megabytes(shutil.disk_usage(there).free)
    return (
        f"{path}: no space left on the disk at {mount} ({free} free{needed}); free some there, or move what lies there"
    )


def is_full(path: Path) -> bool:
    """Whether the disk of a path that exists has next to no space left."""
    return shutil.disk_usage(path).free < LITTLE


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


SHARED = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|lustre|gpfs|ceph|glusterfs|beegfs|wekafs|panfs|pvfs2|orangefs|gfs2|ocfs2|afs|9p|virtiofs|fuse\..+"
)
"""File systems that several machines may have at once."""


def is_shared(path: Path) -> bool:
    """Whether other machines may have a path's file system, as far as its kind says; of a path to be, its nearest parent's."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    path, best, kind = path.resolve(), -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    for line in lines:  # the last of equal ones lies over the others
        fields, _, rest = line.partition(" - ")
        mounted = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields.split()[4]))
        if path.is_relative_to(mounted) and len(mounted.parts) >= best:
            best, kind = len(mounted.parts), rest.split()[0]
    return SHARED.fullmatch(kind) is not None
