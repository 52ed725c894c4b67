"""Typed model of what every data set of a lens' kernels has: the lens, its use, pixels, rays."""

from __future__ import annotations

from typing import Any, Literal, Self

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

Centre = Literal["chief ray", "pinhole", "centroid"]
PixelFilter = Literal["box", "triangle"]
# Wavelengths that are a lens', not a mistake of units.
SHORTEST_UM, LONGEST_UM = 0.1, 20.0
# Sides of a pixel likewise.
SMALLEST_PIXEL_UM, LARGEST_PIXEL_UM = 0.01, 1000.0
# DeepLens itself takes shorter ones only.
DEEPLENS_UM = 10.0
# Side of the kernels that the convolutional networks can halve four times: a multiple of it.
HALVED = 16
# More positions than that are a mistake: their kernels, of which the driver holds a set at a time, would take tens of gigabytes.
MOST_KERNELS = 1_000_000
# Side of the smallest kernel with pixels between whose centres a ray can land, which they then share.
LEAST_SHARED_PX = 2
# A field point's coordinates: x and y normalised to half the sensor's width and height, object distances in mm, negative.
COORDINATES = ("x", "y", "depth_mm", "focus_mm")


def unsaid_filter(trace_px: int, kernel_px: int, psf_model: str = "geometric") -> PixelFilter:
    """What pixels gather where a file of an earlier version does not say it."""
    return "triangle" if psf_model == "geometric" and trace_px == kernel_px else "box"


def several_distances(depths_mm: tuple[float, ...], focus_mm: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
    """Those that are several, by their coordinate's name: what kernels vary with besides x and y."""
    both = zip(COORDINATES[2:], (depths_mm, focus_mm), strict=True)
    return {name: several for name, several in both if len(several) > 1}


class LensFacts(Frozen):
    """What a run writes down about its lens, with which normalised field points become millimetres and angles."""

    sensor_mm: tuple[float, float] = Field(description="width and height; x and y are normalised to half of them")
    focal_length_mm: float | None = Field(None, description="paraxial, at the primary wavelength")
    f_number: float | None = Field(None, description="on the axis")
    field_deg: float | None = Field(None, description="half-diagonal field of view")
    primary_um: float = Field(description="primary wavelength")
    origins: dict[str, str] = Field({}, description="where each condition came from")


class Stream(Frozen):
    """Training on fresh kernels, rendered while the search runs."""

    kernels: PositiveInt = Field(4096, description="size of the buffer that lanes draw from")
    reuse: PositiveInt = Field(
        16, description="times a kernel is drawn, on average, before a fresh one takes its place"
    )


class LensData(DataSection):
    """A lens, what it is used for, the pixels and the rays of its kernels.

    Field coordinates are normalised to [-1, 1] over half the sensor's width and height. What is not given here (0, none) is
    taken from the lens file, the pixels and the window from the lens' spots; a run writes down what it took.
    """

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
    kernel_px: PositiveInt = Field(15, description="side of the model's kernel, which is as large as the traced one")
    pixel_filter: PixelFilter = Field(
        "box",
        description="what a kernel's pixel gathers: the light that falls on it, or light by a triangle that reaches to its "
        "neighbours' centres, as in DeepLens",
    )
    rays: PositiveInt = Field(4096, description="rays per training point and wavelength")
    held_out_rays: PositiveInt = Field(32768, description="rays per validation or test point and wavelength")
    focus_mm: tuple[float, ...] = Field(
        (),
        description="object distances the lens is focused at, negative; none: as in its file; several add a condition",
    )
    stream: Stream | None = Field(None, description="train on fresh kernels, rendered while trials train")
    lens_facts: LensFacts | None = Field(None, description="written by a run, from the lens file")

    @model_validator(mode="before")
    @classmethod
    def _of_an_earlier_version(cls, given: Any) -> Any:
        """A run's record, which has the lens' facts, is of the kernels that its version made."""
        if isinstance(given, dict) and given.get("lens_facts") and "pixel_filter" not in given:
            trace_px, kernel_px = given.get("trace_px", 0), given.get("kernel_px", 15)
            return {**given, "pixel_filter": unsaid_filter(trace_px, kernel_px, given.get("psf_model", "geometric"))}
        return given

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
    def _check_pixels(self) -> Self:
        if self.pixel_pitch_um and not SMALLEST_PIXEL_UM <= self.pixel_pitch_um <= LARGEST_PIXEL_UM:
            raise ValueError(
                f"`pixel_pitch_um` must lie between {SMALLEST_PIXEL_UM} and {LARGEST_PIXEL_UM:g} um, or be 0 to be proposed, "
                f"but got {self.pixel_pitch_um:g}"
            )
        if self.trace_px == 1:
            raise ValueError("`trace_px >= 2` must hold: one pixel catches no ray, whose light goes to four")
        if 0 < self.trace_px < self.kernel_px:
            raise ValueError(
                f"`kernel_px <= trace_px` must hold, but got (kernel_px={self.kernel_px}, trace_px={self.trace_px})"
            )
        if self.pixel_filter == "triangle" and self.kernel_px < LEAST_SHARED_PX:
            raise ValueError(
                f"`kernel_px >= {LEAST_SHARED_PX}` must hold with `pixel_filter: triangle`, which shares light between pixels, "
                f"but got (kernel_px={self.kernel_px})"
            )
        return self

    def check(self, trial: Any) -> None:
        if trial.network == "conv" and self.kernel_px % HALVED:
            raise ValueError(
                f"network conv halves kernels four times, so `kernel_px` must be a multiple of {HALVED}, "
                f"but got (network=conv, kernel_px={self.kernel_px})"
            )

    @property
    def uses_actors(self) -> bool:
        return True

    @property
    def streams(self) -> bool:
        return self.stream is not None

    @property
    def conditions(self) -> tuple[str, ...]:
        """Those of `COORDINATES` that vary: what a model is given."""
        return (*COORDINATES[:2], *self.varied)

    @property
    def varied(self) -> dict[str, tuple[float, ...]]:
        """Distances in mm that vary, by name: conditions besides x and y."""
        return several_distances(self.depths_mm, self.focus_mm)

    @property
    def distances(self) -> list[tuple[float, ...]]:
        """Depths and, if given, focus distances in mm."""
        return [self.depths_mm, *([self.focus_mm] if self.focus_mm else [])]

    @property
    def centre(self) -> Centre:
        """Of kernels."""
        raise NotImplementedError

    def channels(self) -> tuple[tuple[tuple[float, float], ...], ...]:
        """(wavelength in um, weight) of the light of each channel."""
        return tuple(
            tuple(channel.items()) if isinstance(channel, dict) else ((channel, 1.0),)
            for channel in self.wavelengths_um
        )
