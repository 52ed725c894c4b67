"""Typed model of a data set of units: as-built lenses of one design, each seen at a few field positions."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, PositiveInt, model_validator

from deeplens_workers.lens_data import MOST_KERNELS, Centre, LensData
from deeplens_workers.tolerances import Tolerances

OBSERVED_LEVELS = (-0.9, -0.45, 0.0, 0.45, 0.9)
"""Along x and along y, of the positions at which a unit of the held-out sets is observed."""
OBSERVED: dict[int, tuple[int, ...]] = {
    1: (12,),
    4: (6, 8, 16, 18),
    9: (0, 2, 4, 10, 12, 14, 20, 22, 24),
    25: tuple(range(25)),
}
"""Number of observed PSFs -> which of these positions: the centre, the corners of the inner square, every other one, all."""


class AsBuiltData(LensData):
    """Kernels of units of a lens, each at random field positions to train on; held-out units are seen at 25 positions of a grid,
    at which they are observed, and at others, at which a model is judged.

    Of several depths or focus distances, units are trained on and judged at random ones between the nearest and the farthest, and
    observed at the first. A unit is focused for the first focus distance or, without any, for objects at the first depth. A
    stream's units are trained on beside the others.
    """

    tolerances: Tolerances = Field(Tolerances(), description="how far units are from the design")
    units: PositiveInt = Field(300, description="units to train on")
    positions: int = Field(20, ge=5, description="field positions of each of them")
    validation_units: PositiveInt = Field(40, description="units to judge trials by")
    test_units: int = Field(60, ge=2, description="sealed units to judge the winner by")
    held_out_positions: PositiveInt = Field(24, description="positions at which a held-out unit is judged")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.check_size(0)  # a preparation, which knows the lens, checks again
        if self.focus_mm and self.tolerances.compensator == "none":
            raise ValueError(
                f"units with `tolerances.compensator: none` are never focused, but got focus_mm={list(self.focus_mm)}"
            )
        return self

    @property
    def centre(self) -> Centre:
        """What can be measured: nobody who has a unit knows where its chief rays are."""
        return "centroid"

    def check(self, trial: Any) -> None:
        super().check(trial)
        # Found apart among the parts of kernels that are even or odd along x and y, four of each kernel.
        if trial.components > (most := 4 * self.units * self.positions):
            raise ValueError(
                f"so few kernels have fewer components: `components <= 4 * units * positions` must hold, but got "
                f"(components={trial.components}, units={self.units}, positions={self.positions}), {most} at most"
            )
        if trial.targets >= self.positions:
            raise ValueError(
                "some positions of a unit must be left to be observed: `targets < positions` must hold, "
                f"but got (targets={trial.targets}, positions={self.positions})"
            )

    @property
    def observed_positions(self) -> int:
        """Of a held-out unit."""
        return len(OBSERVED_LEVELS) ** 2

    def kernels(self, deviations: int) -> dict[str, int]:
        """Number of kernels in each set.

        `nominal` are of the design, wherever held-out units are seen; `effects` likewise of units that are off in one way, to either
        side.

        Args:
            deviations: in which a unit of the lens may differ from the design.
        """
        each = self.observed_positions + self.held_out_positions
        everywhere = self.observed_positions + 2 * self.held_out_positions
        return {
            "train": self.units * self.positions,
            "validation": self.validation_units * each,
            "test": self.test_units * each,
            "nominal": everywhere,
            "effects": 2 * deviations * everywhere,
        }

    def check_size(self, deviations: int) -> None:
        """Raise ValueError if there are more kernels than a data set may have."""
        if (count := sum(self.kernels(deviations).values())) > MOST_KERNELS:
            raise ValueError(f"a data set has at most {MOST_KERNELS:,} positions, but these are {count:,}")

    def rays_total(self, deviations: int) -> int:
        """Rays that the kernels of all sets are made of, all wavelengths."""
        kernels = self.kernels(deviations)
        waves = sum(len(channel) for channel in self.channels())
        training = kernels["train"] + kernels["effects"]
        return waves * (training * self.rays + (sum(kernels.values()) - training) * self.held_out_rays)
