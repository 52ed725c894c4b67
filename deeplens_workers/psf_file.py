"""Kernels as one file for other programs: safetensors, NumPy or FITS, by the file's suffix.

Every format holds the arrays of `Kernels`, `points` [N, 3] (x, y normalised to half the sensor's width and height; depth in
mm, negative), `image_mm` [N, 2] (ideal image points on the sensor, x right and y up), `field_deg` [N, 2] (their angles to the
axis, by pinhole projection; NaN if the focal length is not known), `focus_mm` [N] (NaN: as in the lens' file), and the lens,
its focal length and sensor, pixel pitch and wavelengths as metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.kernel_optics import KernelOptics
from deeplens_workers.kernels import Kernels, RenderRequest
from spaces.files import replacing


class KernelFile(Protocol):
    """What can be written: arrays by name, first axis the point, and everything else. `kernels` and `points` are there."""

    def arrays(self) -> dict[str, NDArray[Any]]: ...

    def metadata(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class PsfFile:
    """What is written: the kernels of a request."""

    request: RenderRequest
    kernels: Kernels

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, first axis the point."""
        points = self.request.points
        focus = points[:, 3] if points.shape[1] == 4 else np.full(len(points), np.nan, np.float32)
        arrays = {name: getattr(self.kernels, name) for name in Kernels.names()}
        conditions = self.request.lens.conditions
        placed = _placed(points[:, :2], conditions.sensor_mm, conditions.focal_length_mm)
        return {**arrays, "points": points[:, :3], **placed, "focus_mm": focus}

    def metadata(self) -> dict[str, Any]:
        """Everything besides the arrays."""
        request = self.request
        return {
            "lens": request.lens.name,
            "lens_sha256": request.lens.sha256,
            "sensor_mm": request.lens.conditions.sensor_mm,
            "focal_length_mm": request.lens.conditions.focal_length_mm,
            "f_number": request.lens.conditions.f_number,
            "primary_um": request.lens.conditions.primary_um,
            "pixel_pitch_um": request.pixel_pitch_um,
            "kernel_pixel_um": request.pixel_pitch_um * request.tracing.trace_px / request.tracing.kernel_px,
            **asdict(request.tracing),
        }


@dataclass(frozen=True)
class ModelFile:
    """The kernels [N, C, K, K] that a model predicts at points [N, 4] = x, y, depth_mm, focus_mm (NaN: as in the lens' file)."""

    optics: KernelOptics
    points: NDArray[np.float32]
    kernels: NDArray[np.float32]
    source: str
    """The model's name."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        placed = _placed(self.points[:, :2], self.optics.sensor_mm, self.optics.focal_length_mm)
        return {"kernels": self.kernels, "points": self.points[:, :3], **placed, "focus_mm": self.points[:, 3]}

    def metadata(self) -> dict[str, Any]:
        return {"source": self.source, **optics_metadata(self.optics)}


def optics_metadata(optics: KernelOptics) -> dict[str, Any]:
    """What files say of the kernels of a model."""
    names = ("lens", "lens_sha256", "sensor_mm", "focal_length_mm", "f_number", "primary_um", "centre", "kernel_px")
    known = optics.model_dump(mode="json", include={*names, "channels", "pixel_filter"})
    return {**known, "kernel_pixel_um": optics.pixel_um, "model": optics.psf_model}


def _placed(xy: NDArray[np.float32], sensor_mm: tuple[float, float], focal_mm: float | None) -> dict[str, Any]:
    image = (xy * (np.array(sensor_mm) / 2)).astype(np.float32)
    return {"image_mm": image, "field_deg": np.rad2deg(np.arctan(image / np.float32(focal_mm or np.nan)))}


def write(path: Path, file: KernelFile) -> None:
    """Write the file in the format of its suffix, whole or not at all.

    Raises:
        KeyError: no such format; see `FORMATS`.
        ModuleNotFoundError: FITS without astropy.
        OSError: the path cannot be written.
    """
    writer = FORMATS[path.suffix]
    with replacing(path) as temporary:
        writer(temporary, file)


def _safetensors(path: Path, file: KernelFile) -> None:
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in file.arrays().items()}
    path.write_bytes(save(arrays, {name: json.dumps(value) for name, value in file.metadata().items()}))


def _npz(path: Path, file: KernelFile) -> None:
    arrays: dict[str, Any] = {**file.arrays(), "metadata": np.array(json.dumps(file.metadata()))}
    np.savez_compressed(path, **arrays)


CARDS = {
    "LENS": ("lens", "lens file"),
    "SOURCE": ("source", "model"),
    "FOCALLEN": ("focal_length_mm", "[mm] paraxial, at the primary wavelength"),
    "PIXPITCH": ("pixel_pitch_um", "[um] sensor pixel pitch"),
    "KERNPIX": ("kernel_pixel_um", "[um] side of a pixel of the kernels"),
    "PSFMODEL": ("model", "PSF model of DeepLens"),
    "PIXFILT": ("pixel_filter", "what a pixel gathers"),
    "CENTRE": ("centre", "what the middle of a kernel is"),
}
"""FITS keywords -> the metadata's names, and comments."""


def describe(header: Any, meta: dict[str, Any]) -> None:
    """Put the cards of a file's metadata into a FITS header."""
    if "sensor_mm" in meta:
        header["SENSORW"], header["SENSORH"] = ((side, "[mm] sensor") for side in meta["sensor_mm"])
    for card, (name, comment) in CARDS.items():
        if meta.get(name) is not None:
            header[card] = (meta[name], comment)
    for number, channel in enumerate(meta.get("channels", ()), start=1):
        header[f"WAVE{number}"] = (
            ",".join(f"{wave:g}" for wave, _ in channel),
            f"[um] wavelengths of channel {number}",
        )
        header[f"WEIGHT{number}"] = (",".join(f"{weight:g}" for _, weight in channel), "their weights")


def _fits(path: Path, file: KernelFile) -> None:
    """Primary image: kernels, axes x, y, channel, point, y upwards. Table POINTS: a row per point."""
    from astropy.io import fits

    arrays, meta = file.arrays(), file.metadata()
    # FITS images have their first row at the bottom.
    image = fits.PrimaryHDU(np.ascontiguousarray(arrays.pop("kernels")[:, :, ::-1]))
    describe(image.header, meta)
    points = arrays.pop("points")
    columns = {**dict(zip(("x", "y", "depth_mm"), points.T, strict=False)), **arrays}
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name=name, format=f"{values[0].size}{'J' if values.dtype.kind == 'i' else 'E'}", array=values)
            for name, values in ((name, array.reshape(len(array), -1)) for name, array in columns.items())
        ],
        name="POINTS",
    )
    fits.HDUList([image, table]).writeto(path)


FORMATS: dict[str, Callable[[Path, KernelFile], None]] = {".safetensors": _safetensors, ".npz": _npz, ".fits": _fits}
