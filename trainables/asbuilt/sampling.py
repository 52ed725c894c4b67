"""What a prepared set says of its kernels: the pixels and wavelengths, with which measured ones must agree, and their symmetries."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from spaces import store

SAME_SIDE = 1e-6
"""Of a sensor's width and height, which a file may have in other units."""


class Sampling(NamedTuple):
    """pixel_um: side of a kernel's pixel on the sensor; 0: not known.

    wavelengths: in um, of each channel the mean by weight; empty: not known.
    centred: the design looks the same from every azimuth, so that a unit's mirror image, left to right or top to bottom, is a unit.
    square: so does the sensor across its diagonal, and with it a unit.
    """

    pixel_um: float = 0.0
    wavelengths: tuple[float, ...] = ()
    centred: bool = False
    square: bool = False

    @classmethod
    def of(cls, directory: str | Path) -> Sampling:
        """Of a prepared set, by its manifest; of a bare folder of arrays nothing is known."""
        if not (Path(directory) / "manifest.json").exists():
            return cls()
        made = store.manifest(Path(directory))["parameters"]
        units = made["units"]
        return cls(
            made["pixel_pitch_um"] * made["trace_px"] / made["kernel_px"],
            tuple(mean_wavelength(channel) for channel in made["channels"]),
            units["centred"],
            units["centred"] and math.isclose(*units["sensor_mm"], rel_tol=SAME_SIDE),
        )


def mean_wavelength(channel: list[tuple[float, float]]) -> float:
    """Of (wavelength in um, weight): the mean by weight, to a tenth of a nanometre."""
    return round(sum(wave * weight for wave, weight in channel) / sum(weight for _, weight in channel), 4)


UNKNOWN = Sampling()
