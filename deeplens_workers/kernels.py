"""What is asked of the ray tracer and what it answers: plain numpy, so that any process can hold it.

N = field point, C = channel (wavelength), K = model kernel pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.lens_file import LensFile


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """Everything that determines a set of kernels, bit for bit.

    `points` [N, 3] float32: x and y normalised to half the sensor's width and height, in [-1, 1]; object depth in mm,
    negative. `rays` are per point and wavelength.
    """

    lens: LensFile
    points: NDArray[np.float32]
    pixel_pitch_um: float
    wavelengths_um: tuple[float, ...]
    trace_px: int
    kernel_px: int
    rays: int
    seed: int

    @property
    def rays_total(self) -> int:
        """Rays to trace, all points and wavelengths."""
        return len(self.points) * len(self.wavelengths_um) * self.rays

    def tracing(self) -> dict[str, Any]:
        """The arguments of `RayTracer.render` besides the points."""
        names = ("wavelengths_um", "trace_px", "kernel_px", "rays", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Kernels:
    """Rendered kernels of N field points. Pixels named `px` are sensor pixels (the traced ones, not the model's).

    kernels: [N, C, K, K] float32, each channel sums to one. As DeepLens orients them: upright image (the lens' inversion
        undone), row 0 at the top (+y), centred on the chief ray of the primary wavelength.
    chief_ray_offset_px: [N, 2] float32, that chief ray's (x right, y up) minus the ideal pinhole image point: distortion.
    rms_radius_px: [N, C] float32, RMS distance of the rays from their centroid.
    lost: [N, C] float32 in [0, 1], share of the rays reaching the sensor that fall outside the kernel's window.
    """

    kernels: NDArray[np.float32]
    chief_ray_offset_px: NDArray[np.float32]
    rms_radius_px: NDArray[np.float32]
    lost: NDArray[np.float32]

    @staticmethod
    def names() -> tuple[str, ...]:
        """The arrays' names, in order."""
        return tuple(field.name for field in fields(Kernels))

    @staticmethod
    def concatenate(parts: list[Kernels]) -> Kernels:
        """Kernels of consecutive sets of points as one."""
        return Kernels(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Kernels.names()})
