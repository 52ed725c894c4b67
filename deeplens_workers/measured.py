"""Measured kernels of one manufactured unit, read from a file in a format of `psf_file`.

A file of measured kernels has `kernels` [n, C, K, K] and `points` [n, 2, 3 or 4], and gives, if they are known,

                    .npz, .safetensors                  .fits
    pixel           pixel_um, or in metadata            KERNPIX, in um
    wavelengths     wavelengths_um, or in metadata      WAVE1, ... in um, WEIGHT1
    object depth    third column of points              column depth_mm
    focus distance  fourth column, or focus_mm [n]      column focus_mm

`psf-search render` writes such files. Rows of FITS files go up, as everywhere in FITS; rows of all others go down.

Shape legend: n = kernels, C = channel, K = kernel side in pixels.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.lens_data import COORDINATES
from spaces.errors import SpaceError

EXPOSE_LESS = "expose less, or leave it out"


@dataclass(frozen=True, eq=False)
class Measured:
    """Kernels [n, C, K, K] float32 and points [n, 2] float32: x right and y up, normalised to half the sensor's sides.

    `pixel_um` is the side of a kernel's pixel, `wavelengths_um` has a number for each channel; either is None if the file does not
    give it. `distances` has `depth_mm` and `focus_mm` [n], negative, if the file gives them.
    """

    kernels: NDArray[np.float32]
    points: NDArray[np.float32]
    pixel_um: float | None = None
    wavelengths_um: tuple[float, ...] | None = None
    distances: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def at(self, conditions: Sequence[str], file: Path) -> NDArray[np.float32]:
        """The points [n, d] that a model of some of `COORDINATES` takes.

        Raises:
            SpaceError: `file` does not give one of them.
        """
        known = {"x": self.points[:, 0], "y": self.points[:, 1], **self.distances}
        if missing := [name for name in conditions if name not in known]:
            raise SpaceError(f"{file}: does not give {missing[0]}, on which this model's kernels depend")
        return np.stack([known[name] for name in conditions], axis=1)


class Arrays(NamedTuple):
    """The contents of a file, as they are; None if it does not give them."""

    kernels: Any
    points: Any
    pixel_um: Any
    wavelengths_um: Any
    focus_mm: Any

    @classmethod
    def of(cls, found: Mapping[str, Any], about: Any) -> Arrays:
        """Of a file's arrays by name, and its metadata; the former count.

        Raises:
            KeyError: there are no kernels or no points.
            ValueError: the metadata are not as `psf_file` writes them.
        """
        if missing := [name for name in ("kernels", "points") if name not in found]:
            raise KeyError(missing[0])
        if not isinstance(about, dict):
            raise ValueError(f"its metadata must be a mapping, but got {about!r}")
        pixel = found.get("pixel_um", about.get("kernel_pixel_um"))
        waves = found["wavelengths_um"] if "wavelengths_um" in found else _wavelengths(about.get("channels"))
        return cls(found["kernels"], found["points"], pixel, waves, found.get("focus_mm"))


def read(path: Path, white: float | None = None) -> Measured:
    """Measured kernels of a file, by its suffix.

    Args:
        white: the level at which a pixel is saturated; see `saturated`.

    Raises:
        SpaceError: there is no such file or format, it holds no kernels with points, or a kernel is saturated. It names the file.
    """
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise SpaceError(
            f"{path}: expected a file ending in {', '.join(READERS)}, or a picture (.png, .tif) with its centres, "
            f"but got {path.name}"
        )
    if suffix == ".fits":
        check_fits(str(path))
    if not path.is_file():
        raise SpaceError(f"{path}: no such file")
    try:
        arrays = READERS[suffix](path)
        kernels, measured = np.asarray(arrays.kernels), _measured(arrays)
    except KeyError as error:
        raise SpaceError(
            f"{path}: lacks {error.args[0]}; it must have kernels [n, C, K, K] and points [n, 2]"
        ) from None
    except (OSError, EOFError, ValueError, TypeError, IndexError, zipfile.BadZipFile, zlib.error) as error:
        words = str(error).splitlines() or [type(error).__name__]
        raise SpaceError(f"{path}: cannot be read as {suffix}: {words[0]}") from None
    for index, count in enumerate(saturated(kernels, white)):
        if count:
            x, y = measured.points[index]
            raise SpaceError(f"{path}: kernels[{index}] at ({x:g}, {y:g}): {count} pixels are saturated; {EXPOSE_LESS}")
    return measured


def saturated(images: NDArray[Any], white: float | None) -> list[int]:
    """The number of values of each image [n, ...] that are at the white level or above.

    Args:
        white: None stands for the largest value of an integer type, such as 65535. Floats then are never saturated.
    """
    if white is None and images.dtype.kind not in "iu":
        return [0] * len(images)
    level = np.iinfo(images.dtype).max if white is None else white
    return [int((image >= level).sum()) for image in images]


def check_fits(where: str) -> None:
    """Raises SpaceError if astropy is missing."""
    if importlib.util.find_spec("astropy") is None:
        raise SpaceError(f"{where}: FITS needs astropy: pip install 'psf-search[fits]'")


def _measured(arrays: Arrays) -> Measured:
    images, places = _array("kernels", arrays.kernels), _array("points", arrays.points)
    if images.ndim == 5:
        raise ValueError(
            f"it holds {len(images)} units that a model drew, [n, M, C, K, K]; a measurement is of one unit"
        )
    if images.ndim == 3:  # one colour
        images = images[:, None]
    if (
        images.ndim != 4
        or places.ndim != 2
        or not 2 <= places.shape[1] <= len(COORDINATES)
        or len(images) != len(places)
    ):
        raise ValueError(
            f"kernels must be [n, C, K, K] and points [n, 2, 3 or 4], but got {list(images.shape)} and {list(places.shape)}"
        )
    if not len(images):
        raise ValueError("it holds no kernels")
    pixel = _sizes("pixel_um", arrays.pixel_um, 1)
    waves = _sizes("wavelengths_um", arrays.wavelengths_um, images.shape[1])
    distances = dict(zip(COORDINATES[2:], places.T[2:], strict=False))
    if arrays.focus_mm is not None:
        distances["focus_mm"] = _line("focus_mm", arrays.focus_mm, len(images))
    return Measured(images, places[:, :2].copy(), None if pixel is None else pixel[0], waves, distances)


def _array(name: str, values: Any) -> NDArray[np.float32]:
    """Raises ValueError if they are no numbers."""
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers, but got {found.dtype}")
    return np.asarray(found, dtype=np.float32)


def _line(name: str, values: Any, count: int) -> NDArray[np.float32]:
    """So many numbers. Raises ValueError if they are more or less."""
    found = _array(name, values)
    if found.size != count:
        each = "one number" if count == 1 else f"{count} numbers"
        raise ValueError(f"{name} must be {each}, but got {found.size if found.size != 1 else 'one'}")
    return found.reshape(count)


def _sizes(name: str, values: Any, count: int) -> tuple[float, ...] | None:
    """So many positive numbers; None if the file does not give them."""
    if values is None:
        return None
    _line(name, values, count)
    found = tuple(float(one) for one in np.ravel(values))
    if not all(0 < one < np.inf for one in found):
        raise ValueError(f"{name} must be positive, but got {', '.join(f'{one:g}' for one in found)}")
    return found


def _wavelengths(channels: Any) -> list[float] | None:
    """The mean by weight, in um, of each channel of (wavelength, weight)."""
    if channels is None:
        return None
    try:
        return [sum(wave * weight for wave, weight in one) / sum(weight for _, weight in one) for one in channels]
    except (TypeError, ValueError, ZeroDivisionError):
        raise ValueError(f"its channels must be lists of (wavelength, weight), but got {channels!r}") from None


def _npz(path: Path) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no archive of arrays, or not all of one")
    with np.load(path) as file:
        found = {name: file[name] for name in Arrays._fields if name in file}
        return Arrays.of(found, json.loads(str(file["metadata"])) if "metadata" in file else {})


def _safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            said = file.metadata() or {}  # other programs write other things there
            about = {name: json.loads(said[name]) for name in ("kernel_pixel_um", "channels") if name in said}
            found = {name: file.get_tensor(name) for name in Arrays._fields if name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    return Arrays.of(found, about)


def _fits(path: Path) -> Arrays:
    from astropy.io import fits

    with fits.open(path) as file:
        image = file[0]
        header = image.header
        if image.data is None:
            raise ValueError("its primary image is empty")
        if "POINTS" not in file or not isinstance(file["POINTS"], fits.BinTableHDU | fits.TableHDU):
            raise KeyError("the table POINTS")
        table = file["POINTS"].data
        if missing := [name for name in COORDINATES[:2] if name not in table.names]:
            raise KeyError(f"column {missing[0]} of the table POINTS")
        kernels = np.array(image.data)[..., ::-1, :]
        columns = [name for name in COORDINATES[:3] if name in ("x", "y", *table.names)]
        points = np.stack([np.asarray(table[name], dtype=np.float32) for name in columns], axis=1)
        focus = table["focus_mm"] if "focus_mm" in table.names else None
        channels: list[list[tuple[float, float]]] = []
        while (name := f"WAVE{len(channels) + 1}") in header:
            waves = [float(one) for one in str(header[name]).split(",")]
            weights = str(header.get(f"WEIGHT{len(channels) + 1}", ",".join(["1"] * len(waves)))).split(",")
            channels.append([(wave, float(weight)) for wave, weight in zip(waves, weights, strict=True)])
        pixel, waves_um = header.get("KERNPIX"), _wavelengths(channels or None)
        return Arrays(kernels, points, pixel, waves_um, focus)


READERS: dict[str, Callable[[Path], Arrays]] = {".npz": _npz, ".fits": _fits, ".safetensors": _safetensors}
