"""Measured kernels of one manufactured unit, read from a file in a format of `psf_file`.

A file of measured kernels has `kernels` [n, C, K, K] and `points` [n, 2, 3 or 4], and gives, if they are known,

                    .npz                                .fits                       .safetensors
    pixel           pixel_um, or in metadata            KERNPIX, in um              kernel_pixel_um
    wavelengths     wavelengths_um, or in metadata      WAVE1, ... in um, WEIGHT1   channels
    object depth    third column of points              column depth_mm             third column of points
    focus distance  fourth column, or focus_mm [n]      column focus_mm             fourth column, or focus_mm [n]

`psf-search render` writes such files. Rows of FITS files go up, as everywhere in FITS; rows of all others go down.

Shape legend: n = kernels, C = channel, K = kernel side in pixels.
"""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable, Sequence
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

    `pixel_um` is the side of a kernel's pixel, `wavelengths_um` has a number for each channel; either is None if the file does not give it.
    `distances` has `depth_mm` and `focus_mm` [n], negative, if the file gives them.
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


def read(path: Path, white: float | None = None) -> Measured:
    """Measured kernels of a file, by its suffix.

    Args:
        white: the level at which a pixel is saturated; see `saturated`.

    Raises:
        SpaceError: there is no such file or format, it holds no kernels with points, or a kernel is saturated. It names the file.
    """
    if path.suffix not in READERS:
        raise SpaceError(f"{path}: expected a file ending in {', '.join(READERS)}, but got {path.name}")
    if path.suffix == ".fits":
        check_fits(str(path))
    try:
        arrays = READERS[path.suffix](path)
        kernels, measured = np.asarray(arrays.kernels), _measured(arrays)
    except FileNotFoundError:
        raise SpaceError(f"{path}: no such file") from None
    except KeyError as error:
        raise SpaceError(f"{path}: lacks {str(error.args[0]).splitlines()[0]}") from None
    except (OSError, ValueError, TypeError, IndexError, zipfile.BadZipFile) as error:
        words = str(error).splitlines() or [type(error).__name__]
        raise SpaceError(f"{path}: cannot be read as {path.suffix}: {words[0]}") from None
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
        raise SpaceError(f"{where}: FITS needs astropy: install psf-search[fits]")


def _measured(arrays: Arrays) -> Measured:
    images, places = (np.asarray(one, dtype=np.float32) for one in arrays[:2])
    if images.ndim == 5:
        raise ValueError(
            f"it holds {len(images)} units that a model drew, [n, M, C, K, K]; a measurement is of one unit"
        )
    if images.ndim == 3:  # one colour
        images = images[:, None]
    if images.ndim != 4 or places.ndim != 2 or places.shape[1] < 2 or len(images) != len(places):
        raise ValueError(
            f"kernels must be [n, C, K, K] and points [n, 2], but got {list(images.shape)} and {list(places.shape)}"
        )
    waves = None if arrays.wavelengths_um is None else tuple(float(one) for one in np.atleast_1d(arrays.wavelengths_um))
    if waves is not None and len(waves) != images.shape[1]:
        raise ValueError(f"it has {len(waves)} wavelengths of {images.shape[1]} channels")
    pixel = None if arrays.pixel_um is None else float(arrays.pixel_um)
    distances = dict(zip(COORDINATES[2:], places.T[2:], strict=False))
    if arrays.focus_mm is not None:
        distances["focus_mm"] = np.asarray(arrays.focus_mm, dtype=np.float32).reshape(len(images))
    return Measured(images, places[:, :2].copy(), pixel, waves, distances)


def _wavelengths(channels: list[list[tuple[float, float]]] | None) -> list[float] | None:
    """The mean by weight, in um, of each channel of (wavelength, weight)."""
    if channels is None:
        return None
    return [sum(wave * weight for wave, weight in one) / sum(weight for _, weight in one) for one in channels]


def _npz(path: Path) -> Arrays:
    with np.load(path) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is no archive of arrays")
        about = json.loads(str(file["metadata"])) if "metadata" in file else {}
        pixel = file["pixel_um"] if "pixel_um" in file else about.get("kernel_pixel_um")
        waves = file["wavelengths_um"] if "wavelengths_um" in file else _wavelengths(about.get("channels"))
        focus = file.get("focus_mm")
        return Arrays(file["kernels"], file["points"], pixel, waves, focus)


def _safetensors(path: Path) -> Arrays:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            about = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            kernels, points = (file.get_tensor(name) for name in ("kernels", "points"))
            focus = file.get_tensor("focus_mm") if "focus_mm" in file.keys() else None  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    return Arrays(kernels, points, about.get("kernel_pixel_um"), _wavelengths(about.get("channels")), focus)


def _fits(path: Path) -> Arrays:
    from astropy.io import fits

    with fits.open(path) as file:
        image, table = file[0], file["POINTS"].data
        header = image.header
        if image.data is None:
            raise ValueError("its primary image is empty")
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
