"""The model draws units as a factory makes them of a design: `model.sample_units`.

    units = model.sample_units(500, torch.Generator().manual_seed(0))
    units.mtf50(points)                           # [500, M, C] in cycles per kernel pixel
    units.share_above(points, lp_per_mm=40)       # the yield: the share with more at all points

A unit's kernels are the decoder's, with what it leaves of their light drawn too (trainables/asbuilt/residuals.py): without that, units
would differ less than those of a factory do.

Shape legend: n = units, M = positions, C = channel, K = kernel side in pixels, L = latent dimension, d = condition dimension.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from deeplens_workers.kernels import middle_channel
from trainables.asbuilt import quantities
from trainables.asbuilt.kernel_checks import checked_points
from trainables.asbuilt.residuals import FieldNoise, spread_light
from trainables.psf.mtf import NYQUIST

if TYPE_CHECKING:
    from trainables.asbuilt.network import AsBuiltConfig, AsBuiltCVAE

CHUNK = 32
"""Units decoded at once."""
NORMAL_95 = 1.959964
"""Standard deviations either side of the mean that hold 95 % of a normal distribution."""


class Share(NamedTuple):
    """A share of drawn units, with a 95 % interval of the share of all units that the model may draw (Wilson 1927)."""

    share: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, count: int) -> Share:
        """The share that `hits` of `count` units are."""
        z, share = NORMAL_95, hits / count
        middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        return cls(share, max(0.0, middle - half), min(1.0, middle + half))


@dataclass(frozen=True)
class SampledUnits:
    """Units with latents [n, L], and the noise of what these leave of their light. Points are arrays [M, d] of any kind, as `FittedUnit`
    takes them; a unit's kernel at a point is always the same."""

    model: AsBuiltCVAE
    latents: Tensor
    noise: FieldNoise

    def __len__(self) -> int:
        return len(self.latents)

    def predict(self, points: ArrayLike | Tensor) -> Tensor:
        """Kernels [n, M, C, K, K] at points [M, d], unit sum per channel."""
        return torch.cat(list(self._chunks(points)))

    def measure(self, points: ArrayLike | Tensor, quantity: quantities.Quantity) -> Tensor:
        """A quantity, such as one of `quantities.QUANTITIES`, of each unit's kernels at points [M, d]: [n, M, C]."""
        return torch.cat([quantity(kernels) for kernels in self._chunks(points)])

    def mtf50(self, points: ArrayLike | Tensor) -> Tensor:
        """In cycles per kernel pixel, [n, M, C]; `quantities.lp_per_mm` makes line pairs of them."""
        return self.measure(points, quantities.mtf50)

    def rms_radius(self, points: ArrayLike | Tensor) -> Tensor:
        """In kernel pixels, [n, M, C]."""
        return self.measure(points, quantities.rms_radius)

    def share_above(self, points: ArrayLike | Tensor, lp_per_mm: float, channel: int | None = None) -> Share:
        """The yield: the share of units whose MTF50 in a channel is above a value at all points [M, d].

        Args:
            channel: counted from 0; by default the middle one.

        Raises:
            ValueError: as `check_resolved`.
        """
        config = self.model.config
        check_resolved(config, lp_per_mm)
        shown = middle_channel(config.channels) if channel is None else channel
        good = quantities.lp_per_mm(self.mtf50(points)[..., shown], config.pixel_um) > lp_per_mm
        return Share.of(int(good.all(dim=1).sum()), len(self))

    def _chunks(self, points: ArrayLike | Tensor) -> Iterator[Tensor]:
        at = checked_points(self.model.config, points).to(self.latents)
        for start in range(0, len(self), CHUNK):
            with torch.no_grad():
                kernels = self._kernels(at, slice(start, start + CHUNK))
            yield kernels

    def _kernels(self, at: Tensor, some: slice) -> Tensor:
        """Those of some units; of a model whose residuals were not measured, the decoder's own."""
        z, residuals = self.latents[some], self.model.light_residuals
        points = at.expand(len(z), -1, -1)
        if not residuals.measured:
            return self.model.decode(z, points)
        kernels, features = self.model.light(z, points)
        noise = self.noise.at(self.model.places(at) / residuals.reach, some)
        return spread_light(kernels, residuals(features, noise))


def check_resolved(config: AsBuiltConfig, lp_per_mm: float) -> None:
    """Whether a model's pixels tell an MTF50 above a value from one below it.

    Raises:
        ValueError: the value is beyond Nyquist's frequency or no such number, or the model does not know the size of its pixels.
    """
    if not config.pixel_um:
        raise ValueError("this model does not know the size of its pixels, so it has no line pairs per mm")
    limit = NYQUIST * 1000 / config.pixel_um
    if not 0 <= lp_per_mm < limit:
        raise ValueError(
            f"an MTF50 must be at least 0 and below {limit:.4g} lp/mm, as pixels of {config.pixel_um:g} um show no finer lines, "
            f"but got {lp_per_mm:g}"
        )


def sample_units(model: AsBuiltCVAE, count: int, generator: torch.Generator | None = None) -> SampledUnits:
    """`count` units as the factory makes them.

    Raises:
        ValueError: fewer than two, which are no population.
    """
    if count < 2:
        raise ValueError(f"`count >= 2` must hold, as one unit is no population, but got (count={count})")
    amounts, dimension = model.light_residuals.factor.shape[0], len(model.config.conditions)
    with torch.no_grad():
        latents = model.draw_units(count, generator)
        return SampledUnits(model, latents, FieldNoise.draw(count, amounts, dimension, generator))
