"""The conditional VAE of manufactured lenses: q(z given some PSFs of a unit), p(z), and a decoder K_hat(z, x, y).

In one's own code, with a few PSFs of a lens measured at known positions:

    from results import load_model
    model = load_model("results/runs/NAME/model")
    unit = model.fit(kernels, points)              # [n, C, K, K], [n, d]: 1 to 25 measured PSFs
    psf, spread = unit.predict(elsewhere), unit.spread(elsewhere)  # [M, d] -> [M, C, K, K], [M]

Its networks see scores of principal components (trainables/asbuilt/basis.py), of kernels of unit norm.

Shape legend: B = units, n = observed kernels of a unit, M = positions, T = targets, S = samples of z, C = channel, K = kernel side
in pixels, R = components, V = values of a kernel (R, or C K K), L = latent dimension, E = encoded position, H = hidden units,
G = mirror images of a unit, d = condition dimension: x, y, then what else the model knows of depth and focus distance, in mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from numpy.typing import ArrayLike
from torch import Tensor, nn

from deeplens_workers.kernel_optics import KernelOptics
from deeplens_workers.lens_data import COORDINATES
from trainables.asbuilt.basis import FLIPS, MirrorBasis, flipped, of_unit_norm, projected
from trainables.asbuilt.encoder import SetEncoder
from trainables.asbuilt.losses import Terms, misfit
from trainables.asbuilt.residuals import LightResiduals
from trainables.asbuilt.simplex import clean_kernels, nearest_kernels
from trainables.learner import Network
from trainables.networks.gaussian import Gaussian, at_least_float32, gaussian_kl
from trainables.networks.mlp import MLP, FourierEncoding, LearnedVariance, constrain, scale_conditions
from trainables.training import squared_error

if TYPE_CHECKING:
    from trainables.asbuilt.fitting import FittedUnit
    from trainables.asbuilt.population import SampledUnits

MOMENTUM = 0.01
"""Of moving averages over batches."""
WELL_OBSERVED = 0.5
"""Share of the kernels that may be observed."""
LOG_ERROR_LIMIT = 6.0
"""Squared errors of one kernel are not told apart beyond a factor of 400 from the mean."""


@dataclass(frozen=True)
class AsBuiltConfig:
    """Everything needed to build the network again; what `config.json` of an export holds."""

    channels: int
    kernel_px: int
    components: int
    latent_dim: int
    hidden_dim: int
    num_layers: int
    encoder_layers: int
    fourier_bands: int
    network: Literal["basis", "mlp"] = "basis"
    pooling: Literal["mean", "attention"] = "mean"
    prior: Literal["standard", "learned"] = "standard"
    learned_variance: bool = False
    pixel_um: float = 0.0
    """Side of a kernel's pixel on the sensor; 0: not known."""
    wavelengths: tuple[float, ...] = ()
    """In um, of each channel the mean by weight; empty: not known."""
    distances_mm: dict[str, float] = field(default_factory=dict)
    """`depth_mm` and `focus_mm` that all kernels have, as far as they are known."""
    diopter_ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Conditions besides x and y, such as `depth_mm`: vergences in 1/m that map to -1 and 1."""
    flips: int = 1
    """Mirror images of a unit that are units as well, G: 4 of a centred design, which are `FLIPS`, or 1."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """What a point has, d names."""
        return (*COORDINATES[:2], *self.diopter_ranges)

    @property
    def elements(self) -> int:
        """Values of a kernel that the decoder predicts, V."""
        return self.components if self.network == "basis" else self.channels * self.kernel_px**2


class AsBuiltCVAE(Network):
    """Encoder of sets, prior and decoder.

    Args:
        basis: its components are zero without, until weights are loaded.
    """

    gathered = ("batches", "population_mu", "population_second", "residual")
    """Buffers that a training step writes."""
    signs: Tensor
    """[G, R] of the scores of a unit's mirror images."""
    mean: Tensor
    components: Tensor
    weights: Tensor
    spread: Tensor
    variance: Tensor
    batches: Tensor
    population_mu: Tensor
    population_second: Tensor
    residual: Tensor
    """[V] mean squared error of each predicted value of training kernels; of pixels, in units of their norm."""

    def __init__(self, config: AsBuiltConfig, basis: MirrorBasis | None = None) -> None:
        super().__init__()
        self.config = config
        self.optics: KernelOptics | None = None  # set for users of an exported model
        latent, hidden = config.latent_dim, config.hidden_dim
        self.encoding = FourierEncoding(len(config.conditions), config.fourier_bands)
        code = self.encoding.dim
        self.encoder = SetEncoder(config.components, code, hidden, config.encoder_layers, latent, config.pooling)
        self.decoder = MLP((latent, code, latent * code), hidden, config.num_layers, config.elements)
        self.log_error = nn.Linear(hidden, 1)
        nn.init.zeros_(self.log_error.weight)
        nn.init.zeros_(self.log_error.bias)
        self.light_residuals = LightResiduals(hidden, config.channels)
        if config.prior == "learned":
            self.prior_mu, self.prior_logvar = (nn.Parameter(torch.zeros(latent)) for _ in range(2))
        if config.learned_variance:
            self.decoder_logvar = LearnedVariance()
        self._keep(basis)

    def _keep(self, basis: MirrorBasis | None) -> None:
        config = self.config
        count, pixels = config.components, config.channels * config.kernel_px**2
        half, whole = torch.zeros(1, dtype=torch.float16), torch.ones(1)
        if basis is None:
            mean, components, weights = half.expand(pixels), half.expand(count, pixels), whole.expand(pixels)
            spread, variance = whole.expand(count), 1.0
        else:
            mean, components, weights = basis.mean, basis.components[:count], basis.weights
            spread = basis.spread[:count]
            variance = basis.weighted_variance if config.network == "basis" else basis.variance
        parity = torch.ones(count, 2) if basis is None else basis.parity[:count].float()
        x, y = (FLIPS[: config.flips, None, axis] < 0 for axis in (0, 1))
        ones = torch.ones(())
        self.register_buffer("signs", torch.where(y, parity[:, 0], ones) * torch.where(x, parity[:, 1], ones))
        self.register_buffer("mean", mean.clone())
        self.register_buffer("components", components.clone())
        self.register_buffer("weights", weights.clone())
        self.register_buffer("spread", spread.clone())
        self.register_buffer("variance", torch.tensor(variance))
        self.register_buffer("batches", torch.zeros(()))
        # Mean and second moment of z over training units, each with its posterior's variance.
        self.register_buffer("population_mu", torch.zeros(config.latent_dim))
        self.register_buffer("population_second", torch.eye(config.latent_dim))
        # At first nothing is explained.
        unexplained = spread.square() if config.network == "basis" else whole.expand(pixels) * variance / pixels
        self.register_buffer("residual", unexplained.clone())

    @property
    def config_dict(self) -> dict[str, Any]:
        return asdict(self.config)

    # In one's own code.

    def encode(self, kernels: Tensor, points: Tensor) -> Gaussian:
        """q(z given observed) of each unit, mu and logvar [B, L], of kernels [B, n, C, K, K] at points [B, n, d].

        Raises:
            ValueError: the kernels are not of the model's channels and size, or have other numbers of points.
        """
        found: Gaussian = self.encoder.head(self._observed(kernels, points)[:, 0])
        return found

    def known(self, kernels: Tensor, points: Tensor) -> Gaussian:
        """What is known of the z of a unit and of each of its mirror images, [B, G, L].

        mu is that of `encode`. The variance about it is what z has once all PSFs of a unit are seen.
        """
        of_sets = self._observed(kernels, points)
        return Gaussian(self.encoder.head(of_sets).mu, self.encoder.log_variance(of_sets))

    def _observed(self, kernels: Tensor, points: Tensor) -> Tensor:
        """The encoder's features [B, G, D] of sets and their mirror images."""
        wide = len(self.config.conditions)
        if kernels.ndim != 5 or kernels.shape[2:] != self._shape or points.shape != (*kernels.shape[:2], wide):
            raise ValueError(
                f"this model takes kernels [B, n, {', '.join(map(str, self._shape))}] and points [B, n, {wide}], "
                f"but got {list(kernels.shape)} and {list(points.shape)}"
            )
        scores = self.scores(kernels.flatten(0, 1)).unflatten(0, kernels.shape[:2])
        images = (scores[:, None] * self.signs[:, None]).flatten(0, 1)
        features = self._features(images, self._turned(points).flatten(0, 1))
        every = torch.ones_like(features[..., 0], dtype=torch.bool)
        of_sets: Tensor = self.encoder.of_set(features, every).unflatten(0, (len(kernels), -1))
        return of_sets

    def _turned(self, points: Tensor) -> Tensor:
        """Points [B, M, d] as those of the mirror images [B, G, M, d]."""
        turns = torch.ones(self.config.flips, points.shape[-1])
        turns[:, :2] = FLIPS[: self.config.flips]
        return points[:, None] * turns.to(points)[:, None]

    def decode(self, z: Tensor, points: Tensor) -> Tensor:
        """Kernels [B, M, C, K, K] of latents [B, L] at points [B, M, d], unit sum per channel."""
        return self.kernels(self.values(z, points))

    def light(self, z: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels [B, M, C, K, K] as `decode` has them before they fade, and their features [B, M, W] for `light_residuals`."""
        hidden = self._hidden(z, points)
        kernels = nearest_kernels(self._images(self._values(hidden)))
        return kernels, self.light_residuals.features(hidden, kernels, self.places(points))

    def decode_images(self, z: Tensor, points: Tensor) -> Tensor:
        """The same of the latents [B, G, L] of units' mirror images: what each says of its unit, averaged.

        A triplet's units are known to 0.109 in place of 0.116, at no cost but that of decoding G times.
        """
        values = self.values(z.flatten(0, 1), self._turned(points).flatten(0, 1))
        images = torch.arange(self.config.flips, device=z.device).repeat(len(z))
        return self.kernels(self._of_unit(values, images).unflatten(0, z.shape[:2]).mean(dim=1))

    def _of_unit(self, values: Tensor, images: Tensor) -> Tensor:
        """Values [B, M, V] of mirror images [B] as those of the units themselves: a flip is its own inverse."""
        if self.config.network == "basis":
            return values * self.signs[images][:, None]
        return flipped(values.unflatten(2, self._shape), images).view(values.shape)

    def predict(self, observed: Tensor, at: Tensor, points: Tensor) -> Tensor:
        """decode_images(mu): kernels [B, M, C, K, K] at points [B, M, d] of units of which kernels [B, n, C, K, K] are known.

        Args:
            observed, at: those kernels and their points [B, n, d].
        """
        return self.decode_images(self.encoder.head(self._observed(observed, at)).mu, points)

    def sample(
        self, known: Gaussian, points: Tensor, noise: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Kernels [S, M, C, K, K] that a unit may have at points [M, d]: what its mirror images say in turn.

        Each is of a z from what is `known` of the unit [G, L], and has what the decoder is known not to explain added as noise.

        Args:
            noise: [S, L] standard normal, for z.
        """
        images = torch.arange(len(noise), device=points.device) % self.config.flips
        z = Gaussian(*(one[images] for one in known)).sample(noise)
        hidden = self._hidden(z, self._turned(points[None])[0, images])
        values = self._values(hidden)
        white = torch.randn(values.shape, generator=generator).to(values)  # the same on every device
        deviation = self.residual.sqrt() * (self._log_error(hidden) / 2).exp()[..., None]
        return self.kernels(self._of_unit(values + deviation * white, images))

    def draw_units(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Latents [count, L] of units as a factory makes them."""
        noise = torch.randn(count, self.config.latent_dim, generator=generator)
        return self.unit(noise.to(self.population_mu))

    def unit(self, standard: Tensor) -> Tensor:
        """Latents [n, L] of the population, Gaussian with the moments of training units' posteriors, from standard normal ones.

        The prior itself would be too wide or too narrow: with a small KL weight the encoder does not fill it.
        """
        values, vectors = torch.linalg.eigh(
            self.population_second - torch.outer(self.population_mu, self.population_mu)
        )
        latents: Tensor = self.population_mu + standard @ (vectors * values.clamp_min(0).sqrt()).mT
        return latents

    def fit(
        self, kernels: ArrayLike | Tensor, points: ArrayLike | Tensor, channels: Sequence[int] | None = None
    ) -> FittedUnit:
        """The unit of which kernels [n, C, K, K] were measured at points [n, d] (trainables/asbuilt/fitting.py)."""
        from trainables.asbuilt.fitting import fit

        return fit(self, kernels, points, channels)

    def sample_units(self, count: int, generator: torch.Generator | None = None) -> SampledUnits:
        """So many units of the factory (trainables/asbuilt/population.py)."""
        from trainables.asbuilt.population import sample_units

        return sample_units(self, count, generator)

    # What they are made of.

    @property
    def prior(self) -> Gaussian:
        """p(z), mu and logvar [1, L]."""
        if self.config.prior == "learned":
            return Gaussian(self.prior_mu[None], self.prior_logvar[None])
        zeros = self.mean.new_zeros(1, self.config.latent_dim, dtype=torch.float32)
        return Gaussian(zeros, zeros)

    def condition(self, points: Tensor) -> Tensor:
        """Points [B, M, d] -> their encoding [B, M, E]."""
        code: Tensor = self.encoding(self.places(points))
        return code

    def places(self, points: Tensor) -> Tensor:
        """Points [..., d] with conditions from -1 to 1."""
        return scale_conditions(points, [*self.config.diopter_ranges.values()])

    def scores(self, kernels: Tensor) -> Tensor:
        """[N, C, K, K] -> [N, R], in units of the kernels' norms."""
        return projected(kernels, self.mean, self.components, self.weights)

    @property
    def typical_error(self) -> Tensor:
        """Scalar, relative L2 of training kernels: the root of its mean square."""
        if self.config.network == "mlp":
            return self.residual.sum().sqrt()
        return (self.residual @ self.components.float().square().sum(dim=1)).sqrt()

    def _features(self, scores: Tensor, points: Tensor) -> Tensor:
        """What the encoder makes of each kernel: scores [B, n, R], points [B, n, d] -> [B, n, D]."""
        # By the root of their spread: small scores are heard, and large ones stay larger. A triplet's units are known to 0.149 after
        # 1,000 steps, against 0.167 with all scores in the unit of the largest.
        found: Tensor = self.encoder(scores / (self.spread[0] * self.spread).sqrt(), self.condition(points))
        return found

    def values(self, z: Tensor, points: Tensor) -> Tensor:
        """What the decoder says of kernels at points [B, M, d]: scores [B, M, R], or pixels [B, M, C K K] of unit norm."""
        return self._values(self._hidden(z, points))

    def _hidden(self, z: Tensor, points: Tensor) -> Tensor:
        """What the decoder's last layer is given: [B, M, H]."""
        hidden = self._first_layer(z, self.condition(points))
        for layer in list(self.decoder)[1:-1]:
            hidden = layer(hidden)
        return hidden

    def _values(self, hidden: Tensor) -> Tensor:
        raw = at_least_float32(self.decoder.head(hidden))
        if self.config.network == "basis":
            scores: Tensor = raw * self.spread[0]
            return scores
        pixels = constrain(raw.view(-1, *self._shape))
        return of_unit_norm(pixels).view(raw.shape)

    def _log_error(self, hidden: Tensor) -> Tensor:
        """Log of the squared error to be expected of predicted kernels, over the mean of all: [B, M, H] -> [B, M]."""
        found: Tensor = at_least_float32(self.log_error(hidden)).squeeze(-1).clamp(-LOG_ERROR_LIMIT, LOG_ERROR_LIMIT)
        return found

    def _first_layer(self, z: Tensor, code: Tensor) -> Tensor:
        """The decoder's, of z [B, L], encoded positions [B, M, E] and the products of both: [B, M, H].

        A tolerance's effect is at first its size times a function of the position. The products [B, M, L E] are never formed: for
        each unit its z makes a matrix of the weights, which all of its positions share.
        """
        first = self.decoder[0]
        assert isinstance(first, nn.Linear)
        latent, encoded = z.shape[1], code.shape[-1]
        of_z, of_code, of_both = first.weight.split([latent, encoded, latent * encoded], dim=1)
        own = (z @ of_both.view(-1, latent, encoded).transpose(0, 1).flatten(1)).view(len(z), -1, encoded)  # [B, H, E]
        hidden: Tensor = code @ (own + of_code).mT + (z @ of_z.mT + first.bias)[:, None]
        return hidden

    def kernels(self, values: Tensor) -> Tensor:
        """[B, M, V] -> [B, M, C, K, K], not negative, unit sum per channel."""
        return clean_kernels(self._images(values))

    def _images(self, values: Tensor) -> Tensor:
        if self.config.network == "basis":
            values = self.mean.to(values) + values @ self.components.to(values)
        images: Tensor = values.unflatten(2, self._shape)
        return images

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.config.channels, self.config.kernel_px, self.config.kernel_px

    def forward(
        self,
        scores: Tensor,
        points: Tensor,
        present: Tensor,
        targets: Tensor,
        targets_at: Tensor,
        noise: Tensor,
        neighbours: Tensor | None = None,
    ) -> Terms:
        """The loss's terms for a batch, unreduced.

        Args:
            scores, points: [B, n, R] of kernels that may be observed, and where [B, n, d].
            present: [B, n] bool, which of them are.
            targets, targets_at: what shall be predicted [B, T, V], as `values` gives it, and where [B, T, d].
            noise: [B, L] standard normal, for the posterior's sample.
            neighbours: [B, d] points near each unit's first target, for the smoothness term; None: there is none.
        """
        features = self._features(scores, points)
        of_set = self.encoder.of_set(features, present)
        posterior: Gaussian = self.encoder.head(of_set)
        z = posterior.sample(noise)
        wanted = targets.shape[1]
        at = targets_at if neighbours is None else torch.cat([targets_at, neighbours[:, None]], dim=1)
        hidden = self._hidden(z, at)
        values = self._values(hidden)
        error = (values[:, :wanted] - targets).square()
        # What is left of the error with most of the kernels seen is the decoder's.
        well = present.to(error).mean(dim=1) >= WELL_OBSERVED
        if self.training:
            self._observe(error.detach(), z.detach(), well)
        mse = error.sum(dim=-1).mean(dim=1) / self.variance
        surprise = self._surprise(error.detach(), hidden[:, :wanted].detach()).mean(dim=1) * well
        # One PSF alone is rare among what is drawn, and tells least.
        alone = torch.zeros_like(present)
        alone[:, 0] = True
        for seen in (present, alone):
            surprise = surprise + self._distance(features.detach(), seen).mean(dim=1) / 2
        smooth = mse.new_zeros(mse.shape)
        if neighbours is not None:
            smooth = (values[:, 0] - values[:, wanted]).square().sum(dim=-1) / self.variance
        logvar = self.decoder_logvar() if self.config.learned_variance else None
        of_units = squared_error.Terms(
            mse, gaussian_kl(posterior, self.prior), smooth, wanted * self.config.elements, logvar
        )
        return Terms(of_units, surprise)

    # Detached: how large errors are is learned beside what they are errors of, and changes nothing of it.

    def _surprise(self, error: Tensor, hidden: Tensor) -> Tensor:
        """Of squared errors [B, T, V], that they are not as large as expected: [B, T]."""
        return misfit(error.sum(dim=-1) / self.residual.sum(), self._log_error(hidden))

    def _distance(self, features: Tensor, seen: Tensor) -> Tensor:
        """The same of the squared distance of mu to z given all kernels: [B, L].

        Args:
            features: [B, n, D] of all kernels.
            seen: [B, n] bool, those that mu is of.
        """
        with torch.no_grad():
            whole: Gaussian = self.encoder.head(self.encoder.of_set(features, torch.ones_like(seen)))
            of_set = self.encoder.of_set(features, seen)
            squared = (whole.mu - self.encoder.head(of_set).mu).square() + whole.logvar.exp()
        return misfit(squared, self.encoder.log_variance(of_set))

    @torch.no_grad()
    def _observe(self, error: Tensor, z: Tensor, well: Tensor) -> None:
        """Squared errors [B, T, V] and latents [B, L] of the units that are `well` observed [B]: averages over batches and ranks."""
        _, targets, values = error.shape
        latent = z.shape[1]
        chosen = well.to(error)
        z = at_least_float32(z)
        sums = [
            torch.einsum("b,btv->v", chosen, error) / targets,
            chosen @ z,
            ((chosen[:, None] * z).mT @ z).flatten(),
            chosen.sum()[None],
        ]
        total = torch.cat(sums)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        residual, mu, second = (total[:-1] / total[-1].clamp_min(1)).split([values, latent, latent**2])
        some = (total[-1] > 0).to(total)
        self.batches += some
        # At first the mean of all: nothing is left of the initial values.
        weight = some * (1 / self.batches.clamp_min(1)).clamp_min(MOMENTUM)
        # Not `lerp_`, which PyTorch cannot batch over trainings.
        self.residual.copy_(self.residual.lerp(residual, weight))
        self.population_mu.copy_(self.population_mu.lerp(mu, weight))
        self.population_second.copy_(self.population_second.lerp(second.view(latent, latent), weight))
