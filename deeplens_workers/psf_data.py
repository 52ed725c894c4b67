"""Typed model of a PSF data set: which kernels of which lens a study trains on and is judged by."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from spaces.frozen import Frozen
from spaces.system import DataSection

# Side of the kernels that the convolutional networks can halve four times: a multiple of it.
HALVED = 16
# More positions than that are a mistake: their kernels, of which the driver holds a set at a time, would take tens of gigabytes.
MOST_KERNELS = 1_000_000
# DeepLens refuses fewer.
COHERENT_RAYS = 1_000_000
# Wavelengths that are a lens', not a mistake of units.
SHORTEST_UM, LONGEST_UM = 0.1, 20.0
# DeepLens itself takes shorter ones only.
DEEPLENS_UM = 10.0
# A field point's coordinates: x and y normalised to half the sensor's width and height, object distances in mm, negative.
COORDINATES = ("x", "y", "depth_mm", "focus_mm")


class Stream(Frozen):
    """Training on fresh kernels of random field points, rendered while the search runs, in place of the grid's.

    Points are drawn evenly from x, y in [-1, 1] and, in diopters, between the least and greatest of `depths_mm` and of
    `focus_mm`. The grid stays what interpolation is given, and held-out positions what trials are judged by.
    """

    kernels: PositiveInt = Field(4096, description="size of the buffer that lanes draw from")
    reuse: PositiveInt = Field(
        16, description="times a kernel is drawn, on average, before a fresh one takes its place"
    )


class LensFacts(Frozen):
    """What a run writes down about its lens, with which normalised field points become millimetres and angles."""

    sensor_mm: tuple[float, float] = Field(description="width and height; x and y are normalised to half of them")
    focal_length_mm: float | None = Field(None, description="paraxial, at the primary wavelength")
    f_number: float | None = Field(None, description="on the axis")
    field_deg: float | None = Field(None, description="half-diagonal field of view")
    primary_um: float = Field(description="primary wavelength")
    origins: dict[str, str] = Field({}, description="where each condition came from")


class PsfData(DataSection):
    """The PSF data set: a grid of field points to train on, and held-out positions between them.

    Field coordinates are normalised to [-1, 1] over half the sensor's width and height. What is not given here (0, none) is
    taken from the lens file, the pixels and the window from the lens' spots; a run writes down what it took.
    """

    uses_actors: ClassVar[bool] = True

    lens: str = Field(description="shipped lens name, or path of a .json, .zmx or .seq file")
    configuration: PositiveInt | None = Field(
        None, description="which of the lens file's configurations; none: its first"
    )
    sensor_mm: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="width and height of the sensor; none: as in the lens file"
    )
    pixel_pitch_um: NonNegativeFloat = Field(
        0.0, description="sensor pixel pitch in micrometres; 0: proposed from the lens' spots"
    )
    grid: tuple[int, int] = Field((20, 20), description="points along x and y, over [-1, 1] each")
    train_points: NonNegativeInt = Field(
        0, description="random positions to train on; the grid is then interpolation's alone; 0: train on the grid"
    )
    frame: Literal["sensor", "meridional"] = Field(
        "sensor",
        description="of training kernels: meridional ones, of points on the +x axis, are turned to any azimuth of a centred lens",
    )
    depths_mm: tuple[float, ...] = Field(
        (), description="object distances, negative; none: as in the lens file; several add a condition"
    )
    wavelengths_um: tuple[float | dict[float, PositiveFloat], ...] = Field(
        (),
        description="one channel each, red first; {wavelength: weight, ...} integrates several; none: the lens file's",
    )
    trace_px: NonNegativeInt = Field(
        0, description="side of the traced kernel in sensor pixels; 0: proposed from the lens' spots"
    )
    kernel_px: PositiveInt = Field(15, description="side of the model's kernel, area-pooled from the traced one")
    rays: PositiveInt = Field(4096, description="rays per training point and wavelength")
    held_out_rays: PositiveInt = Field(32768, description="rays per validation or test point and wavelength")
    noise: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="relative L2 noise of training kernels, a third of it for the others; rays are then the most it takes",
    )
    focus_mm: tuple[float, ...] = Field(
        (),
        description="object distances the lens is focused at, negative; none: as in its file; several add a condition",
    )
    psf_model: Literal["geometric", "coherent", "huygens"] = "geometric"
    recenter: bool = Field(True, description="centre kernels on the chief ray; false: on the ideal image point")
    validation_points: PositiveInt = Field(200, description="positions to judge trials by, for each depth and focus")
    test_points: PositiveInt = Field(
        300, description="sealed positions to judge the winner by, for each depth and focus"
    )
    stream: Stream | None = Field(None, description="train on fresh kernels in place of the grid's")
    lens_facts: LensFacts | None = Field(None, description="written by a run, from the lens file")

    @field_validator("grid")
    @classmethod
    def _grid(cls, grid: tuple[int, int]) -> tuple[int, int]:
        if min(grid) < 2:
            raise ValueError(f"a grid needs at least 2 points along each axis, but got {list(grid)}")
        return grid

    @field_validator("depths_mm", "focus_mm")
    @classmethod
    def _distances(cls, distances: tuple[float, ...]) -> tuple[float, ...]:
        if any(distance >= 0 for distance in distances) or len(set(distances)) != len(distances):
            raise ValueError(
                f"distances must be distinct and negative (mm in front of the lens), but got {list(distances)}"
            )
        return distances

    @field_validator("wavelengths_um")
    @classmethod
    def _wavelengths(cls, channels: tuple[float | dict[float, float], ...]) -> tuple[float | dict[float, float], ...]:
        all_of_them = [wave for channel in channels for wave in (channel if isinstance(channel, dict) else (channel,))]
        if not all(channels) or any(not SHORTEST_UM < wavelength < LONGEST_UM for wavelength in all_of_them):
            raise ValueError(
                f"wavelengths must lie between {SHORTEST_UM} and {LONGEST_UM} um, but got {list(channels)}"
            )
        return channels

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trace_px == 1:
            raise ValueError("`trace_px >= 2` must hold: one pixel catches no ray, whose light goes to four")
        if 0 < self.trace_px < self.kernel_px:
            raise ValueError(
                f"`kernel_px <= trace_px` must hold, but got (kernel_px={self.kernel_px}, trace_px={self.trace_px})"
            )
        if self.psf_model == "coherent" and self.rays < COHERENT_RAYS:
            raise ValueError(f"psf_model coherent needs `rays >= {COHERENT_RAYS}`, but got {self.rays}")
        if self.noise is not None and self.rays < 256:
            raise ValueError(f"`noise` needs `rays >= 256`, which it may take at the most, but got {self.rays}")
        if self.noise is not None and self.psf_model != "geometric":
            raise ValueError(f"`noise` can be asked for only of psf_model geometric, but got {self.psf_model}")
        if self.stream is not None and self.psf_model != "geometric":
            raise ValueError(f"`stream` goes with psf_model geometric, the only fast one, but got {self.psf_model}")
        if self.frame == "meridional" and not (self.train_points or self.stream):
            raise ValueError("frame meridional needs `train_points >= 1` or `stream`: a grid is of the sensor")
        if self.frame == "meridional" and (self.psf_model != "geometric" or not self.recenter):
            raise ValueError("frame meridional goes with psf_model geometric and `recenter: true`")
        if self.test_points * max(1, len(self.depths_mm)) * max(1, len(self.focus_mm)) < 2:
            raise ValueError("`test_points >= 2` must hold at one depth and focus: one position has no interval")
        if (count := sum(self.kernels().values()) + self.axis_points) > MOST_KERNELS:
            raise ValueError(f"a data set has at most {MOST_KERNELS:,} positions, but these are {count:,}")
        if self.held_out_rays < 8 * self.rays:
            raise ValueError(
                "`held_out_rays >= 8 * rays` must hold, so that the held-out kernels' noise hides no difference, "
                f"but got (held_out_rays={self.held_out_rays}, rays={self.rays})"
            )
        return self

    @property
    def streams(self) -> bool:
        return self.stream is not None

    def check(self, trial: Any) -> None:
        if trial.network == "conv" and self.kernel_px % HALVED:
            raise ValueError(
                f"network conv halves kernels four times, so `kernel_px` must be a multiple of {HALVED}, "
                f"but got (network=conv, kernel_px={self.kernel_px})"
            )

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those of `COORDINATES` that vary: what a model is given."""
        several = {"depth_mm": len(self.depths_mm) > 1, "focus_mm": len(self.focus_mm) > 1}
        return tuple(name for name in COORDINATES if several.get(name, True))

    @property
    def random_points(self) -> int:
        """Random positions that are rendered to train on: none beside a stream, which has its own."""
        return 0 if self.stream is not None else self.train_points

    @property
    def axis_points(self) -> int:
        """About how many points the meridional frame's grid has."""
        if self.frame == "sensor":
            return 0
        return self.train_points or (self.stream.kernels if self.stream is not None else 0)

    def kernels(self) -> dict[str, int]:
        """Number of field points in each set but `axis`, all depths and focus distances."""
        each = max(1, len(self.depths_mm)) * max(1, len(self.focus_mm))
        grid = self.grid[0] * self.grid[1] * each
        return {
            "train": self.random_points or grid,
            "validation": self.validation_points * each,
            "test": self.test_points * each,
            **({"grid": grid} if self.random_points else {}),
        }

    def channels(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """(wavelength in um, weight) of the light of each channel."""
        return tuple(
            tuple(channel.items()) if isinstance(channel, dict) else ((channel, 1.0),)
            for channel in self.wavelengths_um
        )

    def rays_total(self) -> int:
        """Rays that the whole data set's kernels are made of, all wavelengths."""
        kernels = self.kernels()
        held_out = kernels["validation"] + kernels["test"]
        waves = sum(len(channel) for channel in self.channels())
        training = kernels["train"] + self.axis_points + kernels.get("grid", 0)
        return waves * (training * self.rays + held_out * self.held_out_rays)
