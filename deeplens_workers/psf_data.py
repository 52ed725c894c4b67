"""Typed model of a PSF data set: which kernels of which lens a study trains on and is judged by."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from deeplens_workers.lens_data import MOST_KERNELS, Centre, LensData

# DeepLens refuses fewer.
COHERENT_RAYS = 1_000_000


class PsfData(LensData):
    """The PSF data set: a grid of field points to train on, and held-out positions between them.

    A stream is trained on in place of the grid. Its points are drawn evenly from x, y in [-1, 1] and, in diopters, between the
    least and greatest of `depths_mm` and of `focus_mm`. The grid stays what interpolation is given, and held-out positions what
    trials are judged by.
    """

    grid: tuple[int, int] = Field((20, 20), description="points along x and y, over [-1, 1] each")
    train_points: NonNegativeInt = Field(
        0, description="random positions to train on; the grid is then interpolation's alone; 0: train on the grid"
    )
    frame: Literal["sensor", "meridional"] = Field(
        "sensor",
        description="of training kernels: meridional ones, of points on the +x axis, are turned to any azimuth of a centred lens",
    )
    noise: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="relative L2 noise of training kernels, a third of it for the others; rays are then the most it takes",
    )
    psf_model: Literal["geometric", "coherent", "huygens"] = Field(
        "geometric", description="how light becomes a kernel: by rays, or by one of DeepLens' models of waves"
    )
    validation_points: PositiveInt = Field(200, description="positions to judge trials by, for each depth and focus")
    test_points: PositiveInt = Field(
        300, description="sealed positions to judge the winner by, for each depth and focus"
    )
    recenter: bool = Field(True, description="centre kernels on the chief ray; false: on the ideal image point")

    @property
    def centre(self) -> Centre:
        """Of kernels."""
        return "chief ray" if self.recenter else "pinhole"

    @field_validator("grid")
    @classmethod
    def _grid(cls, grid: tuple[int, int]) -> tuple[int, int]:
        if min(grid) < 2:
            raise ValueError(f"a grid needs at least 2 points along each axis, but got {list(grid)}")
        return grid

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.psf_model == "coherent" and self.rays < COHERENT_RAYS:
            raise ValueError(f"psf_model coherent needs `rays >= {COHERENT_RAYS}`, but got {self.rays}")
        if self.noise is not None and self.rays < 256:
            raise ValueError(f"`noise` needs `rays >= 256`, which it may take at the most, but got {self.rays}")
        if self.noise is not None and self.psf_model != "geometric":
            raise ValueError(f"`noise` can be asked for only of psf_model geometric, but got {self.psf_model}")
        if self.pixel_filter == "triangle" and self.psf_model != "geometric":
            raise ValueError(
                f"`pixel_filter: triangle` shares rays: it goes with psf_model geometric, but got {self.psf_model}"
            )
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

    def rays_total(self) -> int:
        """Rays that the whole data set's kernels are made of, all wavelengths."""
        kernels = self.kernels()
        held_out = kernels["validation"] + kernels["test"]
        waves = sum(len(channel) for channel in self.channels())
        training = kernels["train"] + self.axis_points + kernels.get("grid", 0)
        return waves * (training * self.rays + held_out * self.held_out_rays)
