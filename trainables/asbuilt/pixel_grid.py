"""What a measured kernel must agree with: the pixel and the wavelengths of the kernels that a model was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from spaces import store


class Sampling(NamedTuple):
    """pixel_um: side of a kernel's pixel on the sensor; 0: not known.

    wavelengths: in um, of each channel the mean by weight; empty: not known.
    """

    pixel_um: float = 0.0
    wavelengths: tuple[float, ...] = ()

    @classmethod
    def of(cls, directory: str | Path) -> Sampling:
        """Of a prepared set, by its manifest; of a bare folder of arrays nothing is known."""
        if not (Path(directory) / "manifest.json").exists():
            return cls()
        made = store.manifest(Path(directory))["parameters"]
        return cls(
            made["pixel_pitch_um"] * made["trace_px"] / made["kernel_px"],
            tuple(mean_wavelength(channel) for channel in made["channels"]),
        )


def mean_wavelength(channel: list[tuple[float, float]]) -> float:
    """Of (wavelength in um, weight): the mean by weight, to a tenth of a nanometre."""
    return round(sum(wave * weight for wave, weight in channel) / sum(weight for _, weight in channel), 4)


UNKNOWN = Sampling()
