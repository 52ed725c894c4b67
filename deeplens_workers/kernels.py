"""What is asked of the ray tracer and what it answers: plain numpy, so that any process can hold it.

N = field point, C = channel (one wavelength or several), K = model kernel pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.lens_data import Centre, PixelFilter, unsaid_filter
from deeplens_workers.lens_file import LensFile
from deeplens_workers.tolerances import Tolerances

# Wavelengths in um and their weights, relative to each other: the light that one channel gathers.
Channel = tuple[tuple[float, float], ...]
Model = Literal["geometric", "coherent", "huygens"]
Pooling = Literal["area", "smooth"]


def middle_channel(channels: int) -> int:
    """That kernels with their centre at its light's centroid are centred by: green of three colours."""
    return channels // 2


@dataclass(frozen=True)
class Tracing:
    """How kernels are made of rays; the same for all points of a request.

    Args:
        channels: the light of each channel.
        trace_px: side T of the traced kernel in sensor pixels.
        kernel_px: side K of the kernel, of the same window.
        rays: rays per point and wavelength, the most if `noise` is given; a power of two serves best.
        seed: of the pupil samples.
        noise: relative L2 noise that each wavelength's kernel may have; None takes `rays` as they are.
        model: DeepLens' model of the PSF.
        centre: of kernels: the chief ray of the primary wavelength, the ideal image point, or the centroid of the light of
            the middle channel, which is the only one of them that can be measured. All channels have the same.
        pooling: "area" gives what pixels gather; "smooth" samples of a smoothed density, which can be turned
            (`deeplens_workers.pooling`).
        pixel_filter: what a pixel gathers (docs/rendering.md). Of samples of a density it says nothing.
    """

    channels: tuple[Channel, ...]
    trace_px: int
    kernel_px: int
    rays: int
    seed: int = 0
    noise: float | None = None
    model: Model = "geometric"
    centre: Centre = "chief ray"
    pooling: Pooling = "area"
    pixel_filter: PixelFilter = "box"

    @property
    def filter_unsaid(self) -> bool:
        """It is what an earlier version, which had no choice, made of such pixels; or it says nothing."""
        unsaid = unsaid_filter(self.trace_px, self.kernel_px, self.model)
        return self.pooling == "smooth" or self.pixel_filter == unsaid

    @cached_property
    def wavelengths(self) -> tuple[float, ...]:
        """All channels' wavelengths in um, each once, in order of appearance."""
        return tuple(dict.fromkeys(wavelength for channel in self.channels for wavelength, _ in channel))


@dataclass(frozen=True, eq=False)
class Units:
    """As-built lenses that field points are of, as many of each, one unit after the other.

    values: [U, V] deviations from the design in standard deviations (`deeplens_workers.units`).
    focus_mm: object distance, negative, that they are focused at where a point has no distance of its own.
    """

    tolerances: Tolerances
    values: NDArray[np.float64]
    focus_mm: float

    def take(self, chosen: NDArray[np.integer]) -> Units:
        """Some of them."""
        return Units(self.tolerances, self.values[chosen], self.focus_mm)


@dataclass(frozen=True, eq=False)
class RenderRequest:
    """Everything that determines a set of kernels, bit for bit.

    `points` [N, 3 or 4] float32: x and y normalised to half the sensor's width and height, in [-1, 1]; object depth in mm,
    negative; object distance in mm that the lens is focused at, negative, if not as in its file.
    """

    lens: LensFile
    points: NDArray[np.float32]
    pixel_pitch_um: float
    tracing: Tracing
    units: Units | None = None
    """That the points are of; None: of the design."""


@dataclass(frozen=True, eq=False)
class Kernels:
    """Rendered kernels of N field points. Pixels named `px` are sensor pixels (the traced ones, not the model's).

    kernels: [N, C, K, K] float32, each channel sums to one. As DeepLens orients them: upright image (the lens' inversion
        undone), row 0 at the top (+y), centred as `Tracing` says.
    chief_ray_offset_px: [N, 2] float32, that chief ray's (x right, y up) minus the ideal pinhole image point: distortion.
    lateral_color_px: [N, C, 2] float32, each channel's own chief ray minus that one: lateral colour; NaN if vignetted.
    rms_radius_px: [N, C] float32, RMS distance of the rays from their centroid; NaN for the wave-optical models.
    lost: [N, C] float32 in [0, 1], share of the rays reaching the sensor that fall outside the kernel's window; NaN likewise.
    relative_illumination: [N, C] float32, illuminance at the kernel's place, relative to that on the axis, of a scene that is
        equally bright everywhere.
    rays: [N, C] int32, how many the kernel was made of.
    """

    kernels: NDArray[np.float32]
    chief_ray_offset_px: NDArray[np.float32]
    lateral_color_px: NDArray[np.float32]
    rms_radius_px: NDArray[np.float32]
    lost: NDArray[np.float32]
    relative_illumination: NDArray[np.float32]
    rays: NDArray[np.int32]

    @staticmethod
    def names() -> tuple[str, ...]:
        """The arrays' names, in order."""
        return tuple(field.name for field in fields(Kernels))

    @staticmethod
    def empty(points: int, channels: int, kernel_px: int) -> Kernels:
        """Room for kernels, not initialised."""
        each = (points, channels)
        return Kernels(
            kernels=np.empty((*each, kernel_px, kernel_px), np.float32),
            chief_ray_offset_px=np.empty((points, 2), np.float32),
            lateral_color_px=np.empty((*each, 2), np.float32),
            rms_radius_px=np.empty(each, np.float32),
            lost=np.empty(each, np.float32),
            relative_illumination=np.empty(each, np.float32),
            rays=np.empty(each, np.int32),
        )

    def put(self, indices: NDArray[np.int64], kernels: Kernels) -> None:
        """Copy kernels to the places of `indices`."""
        for name in Kernels.names():
            getattr(self, name)[indices] = getattr(kernels, name)
