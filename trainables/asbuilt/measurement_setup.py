"""What a measured kernel must agree with: pixel, wavelengths and distances of the kernels that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deeplens_workers.lens_data import COORDINATES
from spaces import store


@dataclass(frozen=True)
class MeasurementSetup:
    """What is known of how kernels are taken."""

    pixel_um: float = 0.0
    """Side of a kernel's pixel on the sensor; 0: not known."""
    wavelengths: tuple[float, ...] = ()
    """In um, of each channel the mean by weight; empty: not known."""
    distances_mm: dict[str, float] = field(default_factory=dict)
    """`depth_mm` and `focus_mm`, negative, of which all kernels have the same; those that vary are conditions."""

    @classmethod
    def of(cls, directory: str | Path) -> MeasurementSetup:
        """Of a prepared set, by its manifest and points; of a bare folder of arrays nothing is known."""
        directory = Path(directory)
        if not (directory / "manifest.json").exists():
            return cls()
        made = store.manifest(directory)["parameters"]
        columns = zip(COORDINATES[2:], np.load(directory / "points.npy").T[2:], strict=False)
        return cls(
            made["pixel_pitch_um"] * made["trace_px"] / made["kernel_px"],
            tuple(mean_wavelength(channel) for channel in made["channels"]),
            {name: float(values[0]) for name, values in columns if (values == values[0]).all()},
        )


def mean_wavelength(channel: list[tuple[float, float]]) -> float:
    """Of (wavelength in um, weight): the mean by weight, to a tenth of a nanometre."""
    return round(sum(wave * weight for wave, weight in channel) / sum(weight for _, weight in channel), 4)


UNKNOWN = MeasurementSetup()
