"""Likelihoods p(x|z) of images: what a decoder's output says of the pixels, in nats.

Each but `none` is a density, or a mass function, that integrates to one: so ELBOs and IWAE bounds are in nats, whichever it is.

Shape legend: N = images, C = channel, P = parameters per channel, H, W = pixels. Decoder output, `raw`: [N, P C, H, W],
the channels' first parameters, then their second. A raw 0 is mid-grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.networks.gaussian import at_least_float32
from trainables.training.scales import FixedScale, LearnedScale, OptimalScale, Scale, pixel_log_scale
from trainables.training.special import langevin, log_scaled_k1, log_sinh_ratio

Space = Literal["binary", "unit", "levels"]
"""Values of a pixel: 0 or 1; any of [0, 1]; one of the 256 levels 0, 1/255, ..., 1."""

LEVELS = 256
LEAST_CHANCE = 0.01
"""Nearest to 0 and 1 that a mean image is taken for, whose logit is asked for."""
LOG_2PI = math.log(2 * math.pi)


class Likelihood(nn.Module):
    """Independent pixels given z.

    `space` is what the data has to be, `parameters_per_channel` is P. Where `normalised` is False there is no likelihood, only
    images: `log_prob` is not to be called.
    """

    space: Space
    parameters_per_channel = 1
    normalised = True

    def log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats per image, of raw [N, P C, H, W] and x [N, C, H, W] in [0, 1] -> [N]. In float32 also under autocast."""
        return self.pixel_log_prob(at_least_float32(raw), x).flatten(1).sum(dim=1)

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        """Nats per pixel, [N, C, H, W]."""
        raise NotImplementedError

    def expectation(self, raw: Tensor) -> Tensor:
        """Of the pixels, in float32 and with a gradient everywhere: [N, P C, H, W] -> [N, C, H, W]. Densities over all numbers
        have some outside [0, 1]."""
        raise NotImplementedError

    def raw_of(self, mean: Tensor) -> Tensor:
        """What a decoder says of mean images [N, C, H, W]: [N, P C, H, W], of further parameters a raw 0.

        Raises:
            NotImplementedError: the likelihood does not tell.
        """
        raw = mean - 0.5
        return torch.cat([raw, raw.new_zeros(raw.shape).repeat(1, self.parameters_per_channel - 1, 1, 1)], dim=1)

    def mean(self, raw: Tensor) -> Tensor:
        """`expectation`, cut to [0, 1]."""
        return self.expectation(raw).clamp(0, 1)

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw: [N, P C, H, W] -> [N, C, H, W]. Densities over all numbers give some outside [0, 1]."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Binary pixels; raw is the logit. No likelihood of grey values: on these "binary cross-entropy" is in no unit."""

    space = "binary"

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(raw, x, reduction="none")

    def expectation(self, raw: Tensor) -> Tensor:
        return at_least_float32(raw).sigmoid()

    def raw_of(self, mean: Tensor) -> Tensor:
        return mean.clamp(LEAST_CHANCE, 1 - LEAST_CHANCE).logit()

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(self.expectation(raw), generator=generator)


class ContinuousBernoulli(Likelihood):
    """p(x) = e^(raw x) raw / (e^raw - 1) on [0, 1]: cross-entropy with its normaliser (Loaiza-Ganem & Cunningham 2019)."""

    space = "unit"

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        # The normaliser (e^r - 1) / r is e^(r/2) sinh(r/2) / (r/2).
        return raw * (x - 0.5) - log_sinh_ratio(raw / 2)

    def raw_of(self, mean: Tensor) -> Tensor:
        raise NotImplementedError("the mean of a continuous Bernoulli has no inverse in closed form")

    def expectation(self, raw: Tensor) -> Tensor:
        return 0.5 + 0.5 * langevin(at_least_float32(raw) / 2)

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        raw = at_least_float32(raw)
        u = uniform_like(raw, generator)
        # The inverse of the distribution function, where expm1 cannot overflow; the other half is its mirror image.
        falling = -raw.abs().clamp_min(1e-6)
        below = torch.log1p(u * torch.expm1(falling)) / falling
        return torch.where(raw > 0, 1 - below, below)


class SharedGaussian(Likelihood):
    """Gaussian about 1/2 + raw with one sigma for all pixels, over all numbers."""

    space = "unit"

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        squares = (x - 0.5 - raw).square()
        log_scale = self.scale.log(squares)
        return -0.5 * (LOG_2PI + squares * (-2 * log_scale).exp()) - log_scale

    def expectation(self, raw: Tensor) -> Tensor:
        return centre(raw)

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mu = centre(raw)
        return mu + self.scale.log().exp() * normal_like(mu, generator)


class PixelGaussian(Likelihood):
    """Gaussian about 1/2 + raw with a log-sigma of its own for each pixel, over all numbers."""

    space = "unit"
    parameters_per_channel = 2

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        offset, spread = raw.chunk(2, dim=1)
        log_scale = pixel_log_scale(spread)
        return -0.5 * (LOG_2PI + (x - 0.5 - offset).square() * (-2 * log_scale).exp()) - log_scale

    def expectation(self, raw: Tensor) -> Tensor:
        return centre(raw.chunk(2, dim=1)[0])

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        offset, spread = at_least_float32(raw).chunk(2, dim=1)
        return 0.5 + offset + pixel_log_scale(spread).exp() * normal_like(offset, generator)


class Laplace(Likelihood):
    """Laplace about 1/2 + raw with one learned scale b, over all numbers: "L1" with its normaliser 2 b."""

    space = "unit"

    def __init__(self) -> None:
        super().__init__()
        self.scale = LearnedScale()

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        log_scale = self.scale.log()
        return -(x - 0.5 - raw).abs() * (-log_scale).exp() - log_scale - math.log(2)

    def expectation(self, raw: Tensor) -> Tensor:
        return centre(raw)

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mu = centre(raw)
        u = uniform_like(mu, generator) - 0.5
        return mu - self.scale.log().exp() * u.sign() * torch.log1p(-2 * u.abs())


class Charbonnier(Likelihood):
    """p(x) = exp(-sqrt(d^2 + e^2) / b) / (2 e K1(e / b)), d = x - 1/2 - raw, with one learned scale b, over all numbers.

    The Charbonnier loss with its normaliser; a symmetric hyperbolic distribution (Barndorff-Nielsen 1977). Far from d = 0,
    which it rounds off over `epsilon`, it is Laplace's.
    """

    space = "unit"

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.scale = LearnedScale()

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        precision = (-self.scale.log()).exp()
        squares = (x - 0.5 - raw).square()
        # sqrt(d^2 + e^2) - e, without the difference of near-equal numbers; K1 is scaled by the e^(e/b) left out.
        distance = squares / ((squares + self.epsilon**2).sqrt() + self.epsilon)
        return -distance * precision - math.log(2 * self.epsilon) - log_scaled_k1(self.epsilon * precision)

    def expectation(self, raw: Tensor) -> Tensor:
        return centre(raw)

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mu = centre(raw)
        scale = self.scale.log().exp()
        # One distribution of |d| / b for all pixels: its function is tabulated to where e^-20 is left, and inverted.
        ratio = self.epsilon / scale.item()
        grid = torch.linspace(0, math.sqrt(400 + 40 * ratio), 4097, device=mu.device, dtype=torch.float64)
        density = (ratio - (grid.square() + ratio**2).sqrt()).exp()
        table = torch.cat([density.new_zeros(1), torch.cumulative_trapezoid(density, grid)])
        u = uniform_like(mu, generator).double() * 2 - 1
        wanted = u.abs() * table[-1]
        right = torch.searchsorted(table, wanted).clamp(1, len(table) - 1)
        part = (wanted - table[right - 1]) / (table[right] - table[right - 1])
        return mu + scale * (u.sign() * torch.lerp(grid[right - 1], grid[right], part)).to(mu.dtype)


class DiscretisedLogistic(Likelihood):
    """256 levels: a logistic distribution cut into bins of 1/255, with its tails in the outer two (Salimans et al. 2017).

    The centre is 1/2 + raw, and each pixel has a log-scale of its own.
    """

    space = "levels"
    parameters_per_channel = 2

    def pixel_log_prob(self, raw: Tensor, x: Tensor) -> Tensor:
        offset, spread = raw.chunk(2, dim=1)
        precision = (-pixel_log_scale(spread)).exp()
        half_bin = 0.5 / (LEVELS - 1)
        distance = x - 0.5 - offset
        lower, upper = (distance - half_bin) * precision, (distance + half_bin) * precision
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - e^(l - u)), of which the outer bins have one factor.
        first, last = x < half_bin, x > 1 - half_bin
        between = torch.log(-torch.expm1(-2 * half_bin * precision))
        zero = torch.zeros((), dtype=raw.dtype, device=raw.device)
        return (
            torch.where(last, zero, F.logsigmoid(upper))
            + torch.where(first, zero, F.logsigmoid(-lower))
            + torch.where(first | last, zero, between)
        )

    def expectation(self, raw: Tensor) -> Tensor:
        """Of the logistic with its tails at 0 and 1, before it is rounded to a level."""
        offset, spread = at_least_float32(raw).chunk(2, dim=1)
        scale = pixel_log_scale(spread).exp()
        # The integral of P(X > t) over t in [0, 1]; its rounding can end a little outside.
        return scale * (F.softplus((0.5 + offset) / scale) - F.softplus((offset - 0.5) / scale))

    def sample(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        offset, spread = at_least_float32(raw).chunk(2, dim=1)
        x = 0.5 + offset + pixel_log_scale(spread).exp() * uniform_like(offset, generator).logit()
        return (x.clamp(0, 1) * (LEVELS - 1)).round() / (LEVELS - 1)


class NoLikelihood(Likelihood):
    """Images alone, of which raw is the logit: for losses that are distances between images (training/distances.py)."""

    space = "levels"
    normalised = False

    def expectation(self, raw: Tensor) -> Tensor:
        return at_least_float32(raw).sigmoid()

    def raw_of(self, mean: Tensor) -> Tensor:
        return mean.clamp(LEAST_CHANCE, 1 - LEAST_CHANCE).logit()


def centre(raw: Tensor) -> Tensor:
    """1/2 + raw."""
    return 0.5 + at_least_float32(raw)


def normal_like(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the same shape."""
    return torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)


def uniform_like(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers of (0, 1), neither end among them, of the same shape."""
    tiny = torch.finfo(values.dtype).eps / 2
    u = torch.rand(values.shape, generator=generator, device=values.device, dtype=values.dtype)
    return u.clamp(tiny, 1 - tiny)


@dataclass(frozen=True)
class LikelihoodOptions:
    """What some likelihoods need: variance of `gaussian_fixed`, and epsilon of `charbonnier`, in units of x."""

    variance: float = 0.01
    epsilon: float = 1e-3


LIKELIHOODS: dict[str, Callable[[LikelihoodOptions], Likelihood]] = {
    "bernoulli": lambda options: Bernoulli(),
    "continuous_bernoulli": lambda options: ContinuousBernoulli(),
    # -log p is then the summed squared error and a constant.
    "gaussian_half": lambda options: SharedGaussian(FixedScale(math.sqrt(0.5))),
    "gaussian_fixed": lambda options: SharedGaussian(FixedScale(math.sqrt(options.variance))),
    "gaussian_learned": lambda options: SharedGaussian(LearnedScale()),
    "gaussian_optimal": lambda options: SharedGaussian(OptimalScale()),
    "gaussian_pixel": lambda options: PixelGaussian(),
    "laplace": lambda options: Laplace(),
    "charbonnier": lambda options: Charbonnier(options.epsilon),
    "logistic": lambda options: DiscretisedLogistic(),
    "none": lambda options: NoLikelihood(),
}
