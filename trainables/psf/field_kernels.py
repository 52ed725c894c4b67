"""True kernels over the field and a model's, for figures.

Shape legend: N = field point, d = condition dimension, C = channel, K = kernel pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deeplens_workers.lens_data import LensData

Array = NDArray[np.float64]

LEAST = 60
"""Field points of a map, at least, of a model that knows distances."""


@dataclass(frozen=True)
class FieldKernels:
    """True kernels [N, C, K, K] at held-out field points [N, d], and a model's.

    Args:
        conditions: names of the d coordinates.
        half_mm: half the sensor's width and height, to which x and y are normalised.
        pixel_um: side of a kernel's pixel on the sensor.
        which: of several true ones, in words.
    """

    points: Array
    true: Tensor
    generated: Tensor
    conditions: tuple[str, ...]
    half_mm: tuple[float, float]
    pixel_um: float
    which: str = ""

    @classmethod
    def of(
        cls,
        points: Tensor,
        true: Tensor,
        generated: Tensor,
        data: LensData,
        conditions: tuple[str, ...],
        which: str = "",
    ) -> FieldKernels:
        """Those of a study's lens, whose facts are known."""
        assert data.lens_facts is not None
        width, height = data.lens_facts.sensor_mm
        pixel = data.pixel_pitch_um * data.trace_px / data.kernel_px
        return cls(
            points.double().numpy(), true.cpu(), generated.cpu(), conditions, (width / 2, height / 2), pixel, which
        )

    def some(self, chosen: NDArray[Any]) -> FieldKernels:
        """At some of the points."""
        rows = torch.from_numpy(chosen)
        parts = self.points[chosen], self.true[rows], self.generated[rows]
        return FieldKernels(*parts, self.conditions, self.half_mm, self.pixel_um, self.which)

    @property
    def x_mm(self) -> Array:
        return self.points[:, 0] * self.half_mm[0]

    @property
    def y_mm(self) -> Array:
        return self.points[:, 1] * self.half_mm[1]

    @property
    def radius_mm(self) -> Array:
        """Distance from the centre of the sensor."""
        return np.hypot(self.x_mm, self.y_mm)

    @property
    def keys(self) -> dict[str, Array]:
        """What names a field point in a table."""
        return dict(zip(self.conditions, self.points.T, strict=True)) | {"x_mm": self.x_mm, "y_mm": self.y_mm}

    @cached_property
    def at_like_distances(self) -> FieldKernels:
        """The points nearest to the middle of all distances in vergence: a fifth of them for each distance that varies."""
        varied = len(self.conditions) - 2
        if not varied:
            return self
        vergence = 1000 / np.abs(self.points[:, 2:])
        away = np.abs(vergence - np.median(vergence, axis=0)) / np.ptp(vergence, axis=0).clip(1e-12)
        count = min(len(self.points), max(LEAST, len(self.points) // 5**varied))
        return self.some(np.sort(away.max(axis=1).argsort(kind="stable")[:count]))

    @property
    def distances(self) -> str:
        """The ranges of the distances, in words; nothing of a model that knows none."""
        words = [
            f"{name.removesuffix('_mm')} {column.max() / 1000:.3g} to {column.min() / 1000:.3g} m"
            for name, column in zip(self.conditions[2:], self.points.T[2:], strict=True)
        ]
        return "; ".join(words)

    def title(self, words: str) -> str:
        """With the unit, and the range of distances, that are shown."""
        return ", ".join(part for part in (words, self.which, self.distances) if part)
