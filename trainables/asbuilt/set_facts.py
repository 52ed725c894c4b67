"""What a prepared set says of its kernels: pixel, wavelengths and distances, with which measured ones must agree; and their symmetries."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deeplens_workers.lens_data import COORDINATES
from spaces import store

SAME_SIDE = 1e-6
"""Of a sensor's width and height, which a file may have in other units."""


@dataclass(frozen=True)
class SetFacts:
    """What is known of all kernels of a set."""

    pixel_um: float = 0.0
    """Side of a kernel's pixel on the sensor; 0: not known."""
    wavelengths: tuple[float, ...] = ()
    """In um, of each channel the mean by weight; empty: not known."""
    distances_mm: dict[str, float] = field(default_factory=dict)
    """`depth_mm` and `focus_mm`, negative, of which all kernels have the same; those that vary are conditions."""
    centred: bool = False
    """The design looks the same from every azimuth, so that a unit's mirror image, left to right or top to bottom, is a unit."""
    square: bool = False
    """So does the sensor across its diagonal, and with it a unit."""

    @classmethod
    def of(cls, directory: str | Path) -> SetFacts:
        """Of a prepared set, by its manifest and points; of a bare folder of arrays nothing is known."""
        directory = Path(directory)
        if not (directory / "manifest.json").exists():
            return cls()
        made = store.manifest(directory)["parameters"]
        units = made["units"]
        columns = zip(COORDINATES[2:], np.load(directory / "points.npy").T[2:], strict=False)
        return cls(
            made["pixel_pitch_um"] * made["trace_px"] / made["kernel_px"],
            tuple(mean_wavelength(channel) for channel in made["channels"]),
            {name: float(values[0]) for name, values in columns if (values == values[0]).all()},
            units["centred"],
            units["centred"] and math.isclose(*units["sensor_mm"], rel_tol=SAME_SIDE),
        )


def mean_wavelength(channel: list[tuple[float, float]]) -> float:
    """Of (wavelength in um, weight): the mean by weight, to a tenth of a nanometre."""
    return round(sum(wave * weight for wave, weight in channel) / sum(weight for _, weight in channel), 4)


UNKNOWN = SetFacts()
