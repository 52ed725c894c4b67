"""What a model of units writes, in the formats of `psf_file`: the kernels of one unit, or of many that were drawn.

Shape legend: n = units, M = positions, C = channel, K = kernel side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class UnitFile:
    """The kernels [M, C, K, K] of one unit at points [M, 2 or 3], and more arrays of M rows each.

    The points' third column is the depth. `wavelengths_um` is empty, and `pixel_um` 0, where they are not known.
    """

    kernels: NDArray[np.float32]
    points: NDArray[np.float32]
    pixel_um: float
    wavelengths_um: tuple[float, ...]
    source: str
    """The model's name."""
    more: dict[str, NDArray[Any]] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"kernels": self.kernels, "points": self.points, **self.more}

    def metadata(self) -> dict[str, Any]:
        known: dict[str, Any] = {"source": self.source, "centre": "centroid"}
        if self.pixel_um:
            known["kernel_pixel_um"] = self.pixel_um
        if self.wavelengths_um:
            known["channels"] = [[[wavelength, 1.0]] for wavelength in self.wavelengths_um]
        return known


@dataclass(frozen=True, eq=False)
class DrawnUnitsFile(UnitFile):
    """The kernels [n, M, C, K, K] of n drawn units, all at the same points [M, 2 or 3]; only .npz holds them."""
