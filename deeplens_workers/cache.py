"""Rendered kernels on disk, found by the hash of everything that determines them.

One entry is one directory `<cache>/<key>/` of .npy files (memory-mapped by readers) and a manifest with units, shapes and
a checksum of every file. An entry appears by a rename, so it is complete or absent; when two processes render the same
entry, the second throws its own away.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deeplens_workers.glasses import deeplens_version
from deeplens_workers.kernels import Kernels, RenderRequest

# Part of every key. Raise it when a change of this package changes the kernels' bits.
RENDER_VERSION = 1

_UNITS = {
    "points": "x, y: normalised to half the sensor's width and height; depth: mm, negative",
    "kernels": "share of the energy in the kernel's window; each channel sums to 1",
    "chief_ray_offset_px": "sensor pixels, x right and y up, chief ray minus pinhole image",
    "rms_radius_px": "sensor pixels, about the rays' centroid",
    "lost": "share of the rays reaching the sensor that fall outside the kernel's window",
}


class CorruptEntry(Exception):
    """A cache entry that is incomplete or fails its checksums; the message names the file."""


def key(request: RenderRequest) -> str:
    """Content hash (64 hex digits) of the lens file's bytes and every parameter that affects the kernels."""
    digest = hashlib.sha256(json.dumps(_parameters(request), sort_keys=True).encode())
    digest.update(_points(request).tobytes())
    return digest.hexdigest()


def verify(entry: Path) -> None:
    """Check that an entry is complete and matches its checksums.

    Raises:
        CorruptEntry: it does not, or is no cache entry at all.
    """
    try:
        files = json.loads((entry / "manifest.json").read_text())["files"]
        for name in ("points", *Kernels.names()):
            if _sha256(entry / f"{name}.npy") != files[name]["sha256"]:
                raise CorruptEntry(f"{entry / name}.npy does not match its checksum")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptEntry(f"{entry}: {type(error).__name__}: {error}") from None


def read(entry: Path) -> Kernels:
    """The kernels of an entry, memory-mapped and read-only."""
    return Kernels(**{name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in Kernels.names()})


def read_points(entry: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The field points [N, 3] float32 of an entry, memory-mapped and read-only."""
    points: np.ndarray[Any, np.dtype[np.float32]] = np.load(entry / "points.npy", mmap_mode="r")
    return points


def write(cache: Path, request: RenderRequest, kernels: Kernels) -> Path:
    """Add an entry and return its directory; if another process was faster, its equal entry is kept."""
    cache.mkdir(parents=True, exist_ok=True)
    entry = cache / key(request)
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name[:16]}-", dir=cache))
    try:
        arrays = {"points": _points(request), **{name: getattr(kernels, name) for name in Kernels.names()}}
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        manifest = {
            "lens": {"name": request.lens.name, "sha256": request.lens.sha256},
            "parameters": _parameters(request),
            "files": {
                name: {
                    "shape": list(array.shape),
                    "dtype": str(array.dtype),
                    "unit": _UNITS[name],
                    "sha256": _sha256(temporary / f"{name}.npy"),
                }
                for name, array in arrays.items()
            },
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        temporary.chmod(0o755)  # mkdtemp's 0700 would hide a shared cache from other users
        try:
            temporary.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise
        _sync(cache)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return entry


def discard(entry: Path) -> None:
    """Take a corrupt entry out of the cache: first out of sight by a rename, then from the disk."""
    grave = Path(tempfile.mkdtemp(prefix=".corrupt-", dir=entry.parent))
    try:
        entry.rename(grave / entry.name)
    except FileNotFoundError:
        pass  # another process discarded it
    finally:
        shutil.rmtree(grave, ignore_errors=True)


def _parameters(request: RenderRequest) -> dict[str, Any]:
    return {
        "render_version": RENDER_VERSION,
        "deeplens": deeplens_version(),
        "lens_sha256": request.lens.sha256,
        "lens_format": request.lens.path.suffix,
        "points": len(request.points),
        "pixel_pitch_um": float(request.pixel_pitch_um),
        "wavelengths_um": [float(wavelength) for wavelength in request.wavelengths_um],
        "trace_px": request.trace_px,
        "kernel_px": request.kernel_px,
        "rays": request.rays,
        "seed": request.seed,
    }


def _points(request: RenderRequest) -> np.ndarray[Any, np.dtype[np.float32]]:
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
