"""Sets of manufactured lenses on a device.

A set is a directory with `kernels.npy` [U P, C, K, K] float32, unit sum per channel, `points.npy` [U P, 3 or 4]:
normalised x, y in [-1, 1], the object's depth and, if given, the focus distance in mm, and `units.npy` [U, V] float32,
each unit's tolerances in standard deviations; all unit by unit. Of a held-out unit the first 25 positions are the grid
on which it may be observed, at one depth and focus.

Shape legend: d = condition dimension: x, y, then depth and focus distance in mm where these vary; U = units, P =
positions of a unit, H = held-out positions of a unit, V = tolerances, C = channel, K = kernel side in pixels, R =
components.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deeplens_workers.asbuilt_data import OBSERVED, OBSERVED_LEVELS
from deeplens_workers.lens_data import COORDINATES
from trainables.asbuilt.basis import FLIPS, MirrorBasis, Mirrors, flipped
from trainables.asbuilt.set_facts import UNKNOWN, SetFacts
from trainables.asbuilt.shifts import Shifts
from trainables.psf.data import select

if TYPE_CHECKING:  # it loads Ray
    from trainables.psf.stream import StreamReader

GRID_SIDE = len(OBSERVED_LEVELS)
GRID = GRID_SIDE**2
"""A held-out unit is observed at these positions, the first of each: rows of y, x along each, both rising."""


@dataclass(frozen=True)
class AsBuiltSplit:
    """One set: kernels [U, P, C, K, K], points [U, P, d], and the units' tolerances [U, V]."""

    kernels: Tensor
    points: Tensor
    units: Tensor

    def __len__(self) -> int:
        return len(self.kernels)

    @classmethod
    def of(cls, sets: Mapping[str, str], name: str) -> AsBuiltSplit:
        """A prepared set of a run, with the conditions that its models have."""
        return cls.load(sets[name], (*COORDINATES[:2], *diopter_ranges(sets)))

    @classmethod
    def load(cls, directory: str | Path, conditions: Sequence[str] = COORDINATES[:2]) -> AsBuiltSplit:
        """By memory map: its pages are shared by all processes of the machine.

        Args:
            conditions: those of `COORDINATES` that the points shall have, d of them.
        """
        directory = Path(directory)
        units = torch.from_numpy(np.load(directory / "units.npy"))
        # Copy-on-write: torch wants a writable array, and nothing here writes.
        kernels = torch.from_numpy(np.load(directory / "kernels.npy", mmap_mode="c"))
        points = torch.from_numpy(select(np.load(directory / "points.npy"), conditions))
        return cls(kernels.unflatten(0, (len(units), -1)), points.unflatten(0, (len(units), -1)), units)

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Each with a first dimension of units."""
        return self.kernels, self.points, self.units

    def some(self, units: slice) -> AsBuiltSplit:
        """Of these units alone."""
        return AsBuiltSplit(*(one[units] for one in self.parts))

    @property
    def held_out(self) -> AsBuiltSplit:
        """The positions at which a unit is not observed."""
        return AsBuiltSplit(self.kernels[:, GRID:], self.points[:, GRID:], self.units)


@dataclass(frozen=True)
class AsBuiltTest:
    """What is judged by: sealed units, and the lens as designed at all positions of theirs, one unit."""

    units: AsBuiltSplit
    nominal: AsBuiltSplit

    @classmethod
    def load(cls, sets: Mapping[str, str]) -> AsBuiltTest:
        """The prepared sets of a run."""
        return cls(AsBuiltSplit.of(sets, "test"), AsBuiltSplit.of(sets, "nominal"))

    @property
    def nominal_held_out(self) -> Tensor:
        """Kernels [H, C, K, K] of the lens as designed at the units' held-out positions."""
        return self.nominal.kernels[0, rows(self.nominal.points[0], self.units.held_out.points[0])]


def rows(known: Tensor, points: Tensor) -> Tensor:
    """Which of known points [N, d] each of some points [M, d] is.

    Raises:
        ValueError: one is none of them.
    """
    distance = (points[:, None] - known).abs().amax(dim=-1)
    if float(distance.amin(dim=1).max()) > 1e-4:
        raise ValueError("the nominal set lacks points at which units are judged")
    return distance.argmin(dim=1)


def observed(split: AsBuiltSplit, count: int) -> AsBuiltSplit:
    """Of held-out units, so many of the grid's positions: one of `OBSERVED`."""
    chosen = list(OBSERVED[count])
    return AsBuiltSplit(split.kernels[:, chosen], split.points[:, chosen], split.units)


class AsBuiltTensors:
    """What trials train on and are judged by. U, P: of the train set.

    Args:
        device: of the scores; kernels of the train set stay on the CPU until a trial predicts pixels.
        diopter_ranges: of the points' conditions besides x and y (`AsBuiltConfig`).
        fresh: reads a stream of units of as many positions, which are drawn beside those of the train set. Components stay those
            of the train set, which every process and a trial that goes on finds again.
    """

    def __init__(
        self,
        train: AsBuiltSplit,
        validation: AsBuiltSplit,
        device: torch.device,
        facts: SetFacts = UNKNOWN,
        diopter_ranges: dict[str, tuple[float, float]] | None = None,
        fresh: StreamReader | None = None,
    ) -> None:
        self.device, self.facts, self.fresh = device, facts, fresh
        self.diopter_ranges = diopter_ranges or {}
        self._train, self.validation = train, validation
        self._drawn_from = [(train.kernels, train.points)]
        """Kernels [., P, C, K, K] and points [., P, d] of the train set and, if there is one, of the stream's buffer."""
        if fresh is not None:
            positions = train.points.shape[1]
            buffer = fresh.train.kernels.unflatten(0, (-1, positions)), fresh.train.points.unflatten(0, (-1, positions))
            self._drawn_from.append(buffer)
            fresh.on_change = self._take_in
        self.points = torch.cat([points.to(device) for _, points in self._drawn_from])
        """[U + fresh units, P, d]."""
        self.basis = MirrorBasis.fit(train.kernels.flatten(0, 1), square=facts.centred and facts.square)
        self.mirrors: Mirrors = self.basis.mirrors(facts.centred).to(device)

    @classmethod
    def load(
        cls, sets: Mapping[str, str], device: str | torch.device = "cpu", fresh: StreamReader | None = None
    ) -> AsBuiltTensors:
        """The prepared sets of a run."""
        train, validation = (AsBuiltSplit.of(sets, name) for name in ("train", "validation"))
        return cls(train, validation, torch.device(device), SetFacts.of(sets["train"]), diopter_ranges(sets), fresh)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """U, P, C, K of the train set."""
        units, positions, channels, side, _ = self._train.kernels.shape
        return units, positions, channels, side

    @property
    def tolerances(self) -> Tensor:
        """[U, V] of the train set, which no model is given."""
        return self._train.units

    @cached_property
    def scores(self) -> Tensor:
        """[U + fresh units, P, R]."""
        return torch.cat([self._scored(kernels) for kernels, _ in self._drawn_from])

    def kernels_at(self, units: Tensor, positions: Tensor) -> Tensor:
        """Kernels [B, T, C, K, K] of units [B], of which those from U on are fresh, at some of their positions [B, T]."""
        own = len(self.kernels)
        found = self.kernels[units.clamp(max=own - 1)[:, None], positions]
        for kernels, _ in self._drawn_from[1:]:
            late = units >= own
            found[late] = kernels[units[late, None] - own, positions[late]]
        return found

    def refresh(self, units: int) -> None:
        """Between two steps: take fresh units in, in the place of the stream's oldest.

        Args:
            units: that the step drew, on all ranks. All kernels of a unit count as drawn.
        """
        if self.fresh is not None:
            share = 1 - self.shape[0] / len(self.points)
            self.fresh.refresh(round(units * self.shape[1] * share))

    def _take_in(self, place: slice) -> None:
        """Other kernels have come to a place of the stream's buffer."""
        (kernels, points), positions = self._drawn_from[1], self.shape[1]
        new = slice(place.start // positions, place.stop // positions)
        here = slice(self.shape[0] + new.start, self.shape[0] + new.stop)
        self.points[here] = points[new]
        if "scores" in self.__dict__:  # a trial has asked for them
            self.scores[here] = self._scored(kernels[new])

    def _scored(self, kernels: Tensor) -> Tensor:
        return self.basis.scores(kernels.flatten(0, 1).cpu()).view(*kernels.shape[:2], -1).to(self.device)

    @cached_property
    def kernels(self) -> Tensor:
        """[U, P, C, K, K] of the train set."""
        return self._train.kernels.to(self.device)

    @cached_property
    def shifts(self) -> Shifts:
        """Of the components of the basis."""
        return Shifts(*(one.to(self.device) for one in Shifts.of(self.basis, self.shape[2])))

    @cached_property
    def noise(self) -> Tensor:
        """[R] standard deviations of the scores of white noise (`MirrorBasis.noise`)."""
        return self.basis.noise(len(self.basis.components)).to(self.device)

    def mirrored(self, scores: Tensor, images: Tensor) -> Tensor:
        """Scores [B, n, R] of units as those of their mirror images, which `images` [B] names by number."""
        count = scores.shape[-1]
        if self.basis.partner is not None:
            across = self.mirrors.order[-1, :count]
            scores = torch.where((images >= len(FLIPS))[:, None, None], scores[..., across], scores)
        return scores * self.mirrors.signs[images, None, :count]

    def mirrored_kernels(self, kernels: Tensor, images: Tensor) -> Tensor:
        """The same of the kernels [B, n, C, K, K]."""
        across = (images >= len(FLIPS)).view(-1, 1, 1, 1, 1)
        return flipped(torch.where(across, kernels.mT, kernels), images % len(FLIPS))


def diopter_ranges(sets: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Lowest and highest vergence in 1/m of each distance that varies in a run's prepared sets."""
    distances = json.loads(sets.get("distances", "{}"))
    return {name: (-1000 / min(several), -1000 / max(several)) for name, several in distances.items()}
