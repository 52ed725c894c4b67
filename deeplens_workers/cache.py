"""Rendered kernels on disk, found by the hash of everything that determines them (docs/cache.md).

    <cache>/
        <key>/       an entry: .npy files, memory-mapped by readers, and manifest.json with units, shapes and checksums;
                     the manifest's mtime is the entry's last use
        .partial-*/  an entry that is being written or removed
        lock         held (flock) shared to write or verify, exclusively to remove

An entry appears and disappears by a rename, so it is complete or absent. Whoever holds the lock exclusively knows that no
writer lives, so every `.partial-*` is what a killed process has left. Readers need no lock: what they have mapped stays.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.glasses import deeplens_version
from deeplens_workers.kernels import Kernels, RenderRequest

LIMIT = 10 * 2**30  # bytes: 10 GiB
# Part of every key. Raise it when a change of this package changes the kernels' bits.
RENDER_VERSION = 3

_UNITS = {
    "points": "x, y: normalised to half the sensor's width and height; depth and focus: mm, negative",
    "kernels": "share of the energy in the kernel's window; each channel sums to 1",
    "chief_ray_offset_px": "sensor pixels, x right and y up, chief ray minus pinhole image",
    "lateral_color_px": "sensor pixels, x right and y up, chief ray of the channel minus that of the primary wavelength",
    "rms_radius_px": "sensor pixels, about the rays' centroid",
    "lost": "share of the rays reaching the sensor that fall outside the kernel's window",
    "rays": "rays a kernel was made of",
}
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


def key(request: RenderRequest) -> str:
    """Content hash (64 hex digits) of the lens file's bytes and every parameter that affects the kernels."""
    return _key(_parameters(request), _points(request))


def write(cache: Path, request: RenderRequest, kernels: Kernels) -> Path:
    """Add an entry and return its directory; if another process was faster, its equal entry is kept.

    Raises:
        OSError: the disk is full or not writable; nothing is left behind.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with suppress(BlockingIOError), _lock(cache, fcntl.LOCK_EX | fcntl.LOCK_NB):
        _sweep(cache)
    entry = cache / key(request)
    with _lock(cache, fcntl.LOCK_SH):
        temporary = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=cache))
        try:
            _write_files(temporary, request, kernels)
            try:
                temporary.rename(entry)
            except OSError:
                if not entry.is_dir():
                    raise
                _record_use(entry)
            _sync(cache)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return entry


def read(entry: Path) -> Kernels:
    """The kernels of an entry, memory-mapped and read-only; now is its last use. They outlive the entry's removal.

    Raises:
        FileNotFoundError: there is no such entry (any more).
    """
    _record_use(entry)
    return Kernels(**{name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in Kernels.names()})


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
    """Check that an entry is complete, matches its checksums and has the name that its content hashes to.

    Raises:
        CorruptEntry: it does not, or is no cache entry at all.
    """
    if not entry.parent.is_dir():
        raise CorruptEntry(f"{entry}: no such entry")
    with _lock(entry.parent, fcntl.LOCK_SH):
        _check(entry)


def discard(entry: Path) -> None:
    """Remove an entry if it is corrupt. It is checked again, because another process may have rendered it anew."""
    with _lock(entry.parent, fcntl.LOCK_EX):
        try:
            _check(entry)
        except CorruptEntry:
            _remove(entry)


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
    with _lock(cache, fcntl.LOCK_EX):
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
def _lock(cache: Path, operation: int) -> Iterator[None]:
    """Hold the cache's lock. The kernel releases it when the process ends, however it ends, so none is ever stale.

    Raises:
        BlockingIOError: another process holds it, and `operation` has LOCK_NB.
    """
    try:
        handle = os.open(cache / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        handle = os.open(cache / "lock", os.O_RDONLY)  # a cache of another user or on a read-only disk
    try:
        fcntl.flock(handle, operation)
        yield
    finally:
        os.close(handle)


def _record_use(entry: Path) -> None:
    with suppress(OSError):  # of another user, on a read-only disk, or gone: nothing that stops a reader
        os.utime(entry / "manifest.json")


def _check(entry: Path) -> None:
    """Raises CorruptEntry as `verify` does. Call it with the lock held."""
    content = manifest(entry)
    try:
        for name, file in content["files"].items():  # not of `Kernels`, so that entries of other versions are checked
            if _sha256(entry / f"{name}.npy") != file["sha256"]:
                raise CorruptEntry(f"{entry / name}.npy does not match its checksum")
        if _key(content["parameters"], np.load(entry / "points.npy", mmap_mode="r")) != entry.name:
            raise CorruptEntry(f"{entry}: its parameters and points hash to another name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptEntry(f"{entry}: {type(error).__name__}: {error}") from None


def _write_files(directory: Path, request: RenderRequest, kernels: Kernels) -> None:
    """Write an entry's files and force them to the disk."""
    arrays = {"points": _points(request), **{name: getattr(kernels, name) for name in Kernels.names()}}
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    content = {
        "lens": {"name": request.lens.name, "sha256": request.lens.sha256},
        "parameters": _parameters(request),
        "files": {
            name: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "unit": _UNITS[name],
                "sha256": _sha256(directory / f"{name}.npy"),
            }
            for name, array in arrays.items()
        },
    }
    (directory / "manifest.json").write_text(json.dumps(content, indent=2) + "\n")
    directory.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from other users
    for path in (*directory.iterdir(), directory):
        _sync(path)


def _key(parameters: dict[str, Any], points: NDArray[np.float32]) -> str:
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    digest.update(points.tobytes())
    return digest.hexdigest()


def _parameters(request: RenderRequest) -> dict[str, Any]:
    return {
        "render_version": RENDER_VERSION,
        "deeplens": deeplens_version(),
        "lens_sha256": request.lens.sha256,
        "lens_format": request.lens.path.suffix,
        "points": len(request.points),
        "pixel_pitch_um": float(request.pixel_pitch_um),
        **asdict(request.tracing),
    }


def _points(request: RenderRequest) -> NDArray[np.float32]:
    return np.ascontiguousarray(request.points, dtype=np.float32)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Force a file or a directory to the disk: after a power cut a renamed entry has its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
