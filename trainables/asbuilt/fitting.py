"""A unit is fitted to some of its measured PSFs: `model.fit`.

    unit = model.fit(kernels, points)             # [n, C, K, K], [n, d]: 1 to 25 measured PSFs
    unit.predict(elsewhere)                       # [M, C, K, K]
    unit.interval(elsewhere, "mtf50")             # low, median, high [M, C], which hold 90 % of the draws
    unit.misfit                                   # how far the measured PSFs are from the fitted unit's

Shape legend: n = measured kernels, c = measured channels, C = channels of the model, K = kernel side in pixels,
M = positions, S = draws, G = mirror images, L = latent dimension, d = condition dimension: x, y, and depth and focus
distance where the model has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from spaces.seeding import named_seed
from trainables.asbuilt.kernel_checks import checked_kernels, checked_points
from trainables.asbuilt.quantities import QUANTITIES, Quantity, central
from trainables.networks.gaussian import Gaussian
from trainables.psf.metrics import relative_l2
from trainables.psf.model import PSFModel

if TYPE_CHECKING:
    from trainables.asbuilt.network import AsBuiltCVAE

DRAWS = 99
"""Of which the fifth from either end bound 90 %."""
STEPS, RATE = 120, 0.1
"""Steps and rate of Adam, which finds the z of a unit of which not all colours were measured, in 0.3 s. With green
alone the error of a triplet's units is then 0.162 in relative L2, and 0.156 with all three colours."""
PRIOR_WEIGHT = 1e-4
"""Weight of the population's -2 log density against the squared relative L2 of the measured kernels. 1e-5 to 3e-4 do as
well, 1e-3 does not (0.165)."""
SUSPICIOUS = 2.0
"""Times the expected error. Of three models of a triplet, none of 1,392 fits to units of their tolerances comes to it,
some of them to kernels with noise of 10 % of their norm, or cut at fractions of a pixel: 1.97 at most. With 4 PSFs or more
190 of 192 to units of another lens do, and 121 of 144 to units of three times the tolerances (docs/as-built.md)."""
FAMILIAR = 1.25
"""Times the mean error of training units, RMS: the most that is expected of measured kernels. Of units that are like none, draws
differ more, and would hide that they are not."""
POSITIONS = 32
"""Positions whose draws are in memory at once."""


class Interval(NamedTuple):
    """The ends of an interval and its median, [M, C] each, of some quantity at M positions and C channels."""

    low: Tensor
    median: Tensor
    high: Tensor


class Misfit(NamedTuple):
    """How far measured kernels are from those of the unit that was fitted to them: mean ||K_hat - K|| / ||K|| at
    their own points."""

    error: float
    expected: float
    """Of the unit's draws, with the noise that the measured kernels have; but of the draws no more than `FAMILIAR` allows."""

    @property
    def suspicious(self) -> bool:
        """The kernels are hardly those of a unit of this model."""
        return self.error > SUSPICIOUS * self.expected


@dataclass(frozen=True)
class FittedUnit:
    """A unit with measured PSFs: the posterior of the z of each of its mirror images, mu and logvar [1, G, L].

    Points are arrays [M, d] of any kind: x and y in [-1, 1], then depth and focus distance in mm, negative, if the model
    takes them.

    `measured` are the kernels [n, c, K, K] as they were used, centred and of unit sum, at points `measured_at` [n, d];
    `channels` says which of the model's channels they have.
    """

    model: AsBuiltCVAE
    posterior: Gaussian
    measured: Tensor
    measured_at: Tensor
    channels: tuple[int, ...]
    noise: Tensor
    """[n] of the measured kernels, relative L2."""

    @cached_property
    def misfit(self) -> Misfit:
        """How far the measured kernels are from `predict` at their points, in the channels that were measured."""
        predicted = self.predict(self.measured_at)[:, list(self.channels)]
        error = relative_l2(predicted, self.measured).mean()
        spread = self._spread(self.measured_at, DRAWS, self.channels).mean()
        familiar = torch.minimum(spread, FAMILIAR * self.model.typical_error)
        return Misfit(float(error), float(torch.hypot(familiar, self.noise.mean())))

    def psf_model(self) -> PSFModel:
        """Its kernels on any pixels, and all else that can be done with a model of one lens: rendering, a DeepLens lens, exports.

        Raises:
            ValueError: the model was exported by a version that did not write down what its kernels are of.
        """
        if self.model.optics is None:
            raise ValueError("this model's config.json has no `optics`; export it again: psf-search export RUN")
        return PSFModel(UnitNetwork(self.model, self.posterior), self.model.optics)

    @torch.no_grad()
    def predict(self, points: ArrayLike | Tensor) -> Tensor:
        """Kernels [M, C, K, K] at points [M, d], unit sum per channel: the decoder's for the posterior's mean."""
        at = self._at(points)
        return self.model.decode_images(self.posterior.mu, at[None])[0]

    @torch.no_grad()
    def draw(self, points: ArrayLike | Tensor, count: int = DRAWS, generator: torch.Generator | None = None) -> Tensor:
        """Kernels [S, M, C, K, K] that the unit may have. A draw is a z from the posterior, decoded, plus the decoder's
        own error."""
        at = self._at(points)
        noise = torch.randn(count, self.posterior.mu.shape[-1], generator=generator).to(at)
        return self.model.sample(Gaussian(*(one[0] for one in self.posterior)), at, noise, generator)

    def spread(self, points: ArrayLike | Tensor, count: int = DRAWS) -> Tensor:
        """Expected ||K_hat - K|| / ||K|| of `predict` at points [M, d], if the unit is one of the draws: [M]."""
        return self._spread(points, count, range(self.model.config.channels))

    def _spread(self, points: ArrayLike | Tensor, count: int, channels: Sequence[int]) -> Tensor:
        """The same over some channels."""
        parts = []
        for at, drawn in self._draws(points, count):
            some = drawn[:, :, list(channels)]
            predicted = self.predict(at)[:, list(channels)].expand_as(some)
            errors = relative_l2(predicted.flatten(0, 1), some.flatten(0, 1))
            parts.append(errors.view(some.shape[:2]).mean(dim=0))
        return torch.cat(parts)

    def interval(
        self, points: ArrayLike | Tensor, quantity: str | Quantity, level: float = 0.9, count: int = DRAWS
    ) -> Interval:
        """The interval that holds the central `level` of a quantity's draws at points [M, d].

        Args:
            quantity: one of `quantities.QUANTITIES` by name, or a function of kernels [..., C, K, K] -> [..., C].

        Raises:
            ValueError: the quantity is unknown, or the level is not between 0 and 1.
        """
        if isinstance(quantity, str):
            if quantity not in QUANTITIES:
                raise ValueError(f"unknown quantity '{quantity}'; valid: {', '.join(QUANTITIES)}")
            quantity = QUANTITIES[quantity]
        if not 0 < level < 1:
            raise ValueError(f"`0 < level < 1` must hold, but got (level={level})")
        values = torch.cat([quantity(drawn) for _, drawn in self._draws(points, count)], dim=1)  # [S, M, C]
        return Interval(*central(values, level))

    def _draws(self, points: ArrayLike | Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Some points, and the draws there. They are the same in every call."""
        generator = torch.Generator().manual_seed(named_seed(0, "fitted unit"))
        for at in self._at(points).split(POSITIONS):
            yield at, self.draw(at, count, generator)

    def _at(self, points: ArrayLike | Tensor) -> Tensor:
        return checked_points(self.model.config, points).to(self.posterior.mu)


class UnitNetwork(nn.Module):
    """The kernels of one unit, as those of a lens."""

    def __init__(self, model: AsBuiltCVAE, posterior: Gaussian) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mu", posterior.mu)
        self.register_buffer("logvar", posterior.logvar)

    mu: Tensor
    logvar: Tensor

    def predict(self, points: Tensor) -> Tensor:
        """Kernels [M, C, K, K] at points [M, d], differentiable in them."""
        return self.model.decode_images(self.mu, points[None])[0]

    def sample(self, points: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Likewise of one z of the unit's posterior, `temperature` times as wide: all of the points are of one unit."""
        noise = torch.randn(self.mu.shape[-1:], generator=generator).to(self.mu)
        spread = temperature * (0.5 * self.logvar).exp()
        return self.model.decode_images(self.mu + spread * noise, points[None])[0]


@torch.no_grad()
def fit(
    model: AsBuiltCVAE, kernels: ArrayLike | Tensor, points: ArrayLike | Tensor, channels: Sequence[int] | None = None
) -> FittedUnit:
    """The unit whose kernels [n, c, K, K] were measured at points [n, d]; 1 to 25 of them, of any brightness.

    The kernels are centred first, all colours of one together (trainables/asbuilt/recentring.py). Colours that were not
    measured are filled in by the unit that fits the measured ones best. The posterior takes them for measured, so it is
    a little narrower than it should be.

    Args:
        channels: the model's channels that the c are; by default all of them, in their order.

    Raises:
        ValueError: the kernels do not suit this model, or something went wrong with one. It names the kernel and
            channel.
    """
    given, unordered, noise = checked_kernels(model.config, kernels, points, channels)
    at = checked_points(model.config, points).to(model.mean.device)[None]
    seen, chosen = given.to(model.mean.device)[None, :, np.argsort(unordered)], sorted(unordered)
    whole = seen
    if len(chosen) < model.config.channels:
        whole = model.decode(_nearest_unit(model, seen, at, chosen), at)
        whole[:, :, chosen] = seen
    return FittedUnit(model, model.known(whole, at), seen[0], at[0], tuple(chosen), noise.to(at))


def _nearest_unit(model: AsBuiltCVAE, seen: Tensor, at: Tensor, chosen: list[int]) -> Tensor:
    """z [1, L] of the most likely unit with kernels [1, n, c, K, K] in some channels at points [1, n, d]."""
    light = seen.square().sum()
    standard = torch.zeros(1, model.config.latent_dim).to(at).requires_grad_()
    optimizer = torch.optim.Adam([standard], lr=RATE)
    for _ in range(STEPS):
        with torch.enable_grad():
            error = (model.decode(model.unit(standard), at)[:, :, chosen] - seen).square().sum() / light
            (standard.grad,) = torch.autograd.grad(error + PRIOR_WEIGHT * standard.square().sum(), [standard])
        optimizer.step()
    return model.unit(standard.detach())
