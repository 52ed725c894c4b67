"""The conditional VAE of PSF kernels: q(z|K,c), a prior p(z|c), and a decoder K_hat(z, c).

In one's own code it is the `network` of a `PSFModel` (trainables/psf/model.py).

What its networks see of a kernel are its `values`: the pixels [C, K, K], or the scores [R] of its principal components.

Shape legend: B = batch, C = channel, K = kernel side in pixels, L = latent dimension, P = neighbour pairs, E = encoded
condition, d = condition dimension: x, y, then what else the model knows of depth and focus distance, in mm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.learner import Network
from trainables.networks.blocks import Upsampling
from trainables.networks.gaussian import Gaussian, at_least_float32, gaussian_kl
from trainables.networks.mlp import (
    MLP,
    FourierEncoding,
    GaussianMLP,
    LearnedVariance,
    constrain,
    diopters,
    scale_conditions,
)
from trainables.networks.norms import Norm
from trainables.networks.vae import standard_normal
from trainables.psf.convolutional import ConvDecoder, ConvEncoder
from trainables.psf.principal import Components, expand
from trainables.psf.trial import CvaePsfTrial
from trainables.psf.turning import Turned, Turning
from trainables.training.losses import squared_distance
from trainables.training.squared_error import Terms


@dataclass(frozen=True)
class CvaeConfig:
    """Everything needed to build the model again; what `config.json` of an export holds."""

    channels: int
    kernel_px: int
    diopter_ranges: dict[str, tuple[float, float]]
    """Conditions besides x and y, such as `depth_mm`: vergences in 1/m that map to -1 and 1."""
    latent_dim: int
    hidden_dim: int
    num_layers: int
    fourier_bands: int
    learned_variance: bool = False
    """The decoder's variance is a parameter."""
    network: Literal["mlp", "conv", "basis"] = "mlp"
    prior: Literal["learned", "standard"] = "learned"
    encoder_layers: int = 0
    """0: `num_layers`."""
    components: int = 0
    samples: int = 0
    """Numbers of a component."""
    turned: Turned | None = None
    """Of `basis`: its components are of kernels on the +x axis."""
    defocus: bool = False
    """The vergence of the depth minus that of the focus is a condition too."""
    base_width: int = 32
    norm: Norm = "batch"
    upsampling: Upsampling = "transposed3"

    @classmethod
    def of(
        cls,
        trial: CvaePsfTrial,
        *,
        channels: int,
        kernel_px: int,
        diopter_ranges: dict[str, tuple[float, float]],
        basis: Components | None = None,
        turned: Turned | None = None,
    ) -> CvaeConfig:
        """The network of a trial for kernels [C, K, K].

        Args:
            basis, turned: of the data's kernels; for `basis` alone.
        """
        of_basis: dict[str, Any] = {}
        if trial.network == "basis":
            assert basis is not None
            found, samples = basis.components.shape
            of_basis = {"components": min(trial.components, found), "samples": samples, "turned": turned}
        return cls(
            channels,
            kernel_px,
            diopter_ranges,
            latent_dim=trial.latent_dim,
            hidden_dim=trial.hidden_dim,
            num_layers=trial.num_layers,
            fourier_bands=trial.fourier_bands,
            learned_variance=trial.decoder_variance == "learned",
            network=trial.network,
            prior=trial.prior,
            encoder_layers=trial.encoder_layers,
            base_width=trial.base_width,
            norm=trial.norm,
            upsampling=trial.upsampling,
            defocus=trial.defocus and len(diopter_ranges) == 2,
            **of_basis,
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CvaeConfig:
        """Inverse of `dataclasses.asdict`, also after a way through JSON."""
        ranges = {name: (float(low), float(high)) for name, (low, high) in values["diopter_ranges"].items()}
        turned = values.get("turned")
        return cls(**{**values, "diopter_ranges": ranges, "turned": turned and Turned(**turned)})

    @property
    def conditions(self) -> list[str]:
        """What the d coordinates of a point are."""
        return ["x", "y", *self.diopter_ranges]


class CVAE(Network):
    """CVAE with a learned prior. All methods take field points in physical units: x, y in [-1, 1], mm < 0.

    Args:
        basis: of `basis`; without it its components are zero until weights are loaded.
    """

    mean: Tensor
    components: Tensor
    scale: Tensor

    def __init__(self, config: CvaeConfig, basis: Components | None = None) -> None:
        super().__init__()
        self.config = config
        hidden, latent = config.hidden_dim, config.latent_dim
        shallow = config.encoder_layers or config.num_layers
        coordinates = len(config.conditions) - (config.turned is not None) + config.defocus
        self.encoding = FourierEncoding(coordinates, config.fourier_bands)
        code = self.encoding.dim
        shape = (config.channels, config.kernel_px, config.base_width, config.norm)
        values = config.components or config.channels * config.kernel_px**2
        # Encoder, prior, decoder: the order in which a seed's random weights have always been drawn.
        self.encoder: nn.Module
        if config.network == "conv":
            self.encoder = ConvEncoder(*shape, latent)
        else:
            self.encoder = GaussianMLP((values, code), hidden, shallow, latent)
        if config.prior == "learned":
            self.prior_network = GaussianMLP((code,), hidden, shallow, latent)
        self.decoder: MLP | ConvDecoder
        if config.network == "conv":
            inputs = latent if config.prior == "learned" else latent + code
            self.decoder = ConvDecoder(inputs, *shape, config.upsampling)
        else:
            self.decoder = MLP((latent, code), hidden, config.num_layers, values)
        if config.learned_variance:
            self.variance = LearnedVariance()
        if config.network == "basis":
            self._keep(basis)
        if config.turned is not None:
            self.turning = Turning(config.turned, config.kernel_px)

    def _keep(self, basis: Components | None) -> None:
        count, samples = self.config.components, self.config.samples
        mean = torch.zeros(samples, dtype=torch.float16) if basis is None else basis.mean
        components = mean.new_zeros(count, samples) if basis is None else basis.components[:count].clone()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.register_buffer("scale", torch.tensor(1.0 if basis is None else basis.scale))

    @property
    def config_dict(self) -> dict[str, Any]:
        return asdict(self.config)

    def condition(self, points: Tensor) -> Tensor:
        """Points [B, d] -> their encoding [B, E].

        Raises:
            ValueError: not a tensor, or not the model's number of coordinates.
        """
        if not isinstance(points, Tensor) or points.ndim != 2 or points.shape[1] != len(self.config.conditions):
            names = ", ".join(self.config.conditions)
            got = f"shape {tuple(points.shape)}" if isinstance(points, Tensor) else type(points).__name__
            raise ValueError(
                f"this model takes a tensor of points [N, {len(self.config.conditions)}]: {names}; but got {got}"
            )
        weights = self.decoder.head.weight.dtype
        # In half precision a place would be known to a thousandth, and its distance hardly at all.
        points = points.to(torch.promote_types(weights, torch.float32))
        scaled = scale_conditions(points, [*self.config.diopter_ranges.values()])
        if (turned := self.config.turned) is not None:
            scaled = torch.cat([2 * turned.radius(scaled)[:, None] / turned.farthest - 1, scaled[:, 2:]], dim=1)
        if self.config.defocus:
            scaled = torch.cat([scaled, self._defocus(points)[:, None]], dim=1)
        code: Tensor = self.encoding(scaled).to(weights)
        return code

    def _defocus(self, points: Tensor) -> Tensor:
        """[B] in [-1, 1], even in 1/m, of points [B, 4]."""
        (low, high), (lowest, highest) = self.config.diopter_ranges.values()
        least, most = low - highest, high - lowest
        depth, focus = diopters(points[:, 2:]).unbind(-1)
        return 2 * (depth - focus - least) / (most - least) - 1

    def encode(self, values: Tensor, points: Tensor) -> Gaussian:
        """Posterior q(z|K,c) of kernels' values, [B, C, K, K] or [B, R], at points [B, d]."""
        return self._posterior(values, self.condition(points))

    def prior(self, points: Tensor) -> Gaussian:
        """p(z|c) at points [B, d]."""
        return self._prior(self.condition(points))

    def decode(self, z: Tensor, points: Tensor) -> Tensor:
        """Kernels [B, C, K, K] of latents [B, L] at points [B, d]."""
        return self._kernels(self._values(z, self.condition(points)), points)

    def predict(self, points: Tensor) -> Tensor:
        """decode(mu_prior(c), c): the kernels [B, C, K, K] at points [B, d], differentiable in the points."""
        code = self.condition(points)
        return self._kernels(self._values(self._prior(code).mu, code), points)

    def sample(self, points: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """One draw z ~ p(z|c) per point, `temperature` times as wide, decoded: [B, d] -> [B, C, K, K]."""
        code = self.condition(points)
        prior = self._prior(code)
        noise = torch.randn(prior.mu.shape, generator=generator, device=prior.mu.device)
        return self._kernels(self._values(prior.sample(temperature * noise), code), points)

    def forward(
        self,
        values: Tensor,
        points: Tensor,
        noise: Tensor,
        pairs: Tensor,
        smooth_term: Literal["mu", "kl", "output"] = "mu",
    ) -> Terms:
        """The loss's terms for a batch, unreduced.

        Args:
            values, points: [B, C, K, K] or [B, R], and [B, d].
            noise: [B, L] standard normal, for the posterior sample.
            pairs: [2, P, d] neighbouring points, for the smoothness term.
            smooth_term: what must vary smoothly: "mu" ||mu_i - mu_j||^2, "kl" KL(p(z|c_i) || p(z|c_j)), or "output"
                the squared distance of the predicted values. "mu" alone is also lowered by shrinking the latent space.
        """
        batch, count = len(points), pairs.shape[1]
        # The prior needs only coordinates: one call serves the batch and both ends of the pairs.
        codes = self.condition(torch.cat([points, pairs.flatten(0, 1)]))
        mu, spread = self._prior(codes)
        prior, first, second = map(Gaussian, mu.split([batch, count, count]), spread.split([batch, count, count]))
        posterior = self._posterior(values, codes[:batch])
        output = self._values(posterior.sample(noise), codes[:batch])
        if smooth_term == "mu":
            smooth = squared_distance(first.mu, second.mu)
        elif smooth_term == "kl":
            smooth = gaussian_kl(first, second).sum(dim=1)
        else:
            ends = self._values(mu[batch:], codes[batch:])
            smooth = squared_distance(ends[:count], ends[count:])
        mse = (output - values).square().flatten(1).mean(dim=1)
        logvar = self.variance() if self.config.learned_variance else None
        elements = values.shape[1:].numel()  # not of the first: a rank may have no part of a small batch
        return Terms(mse=mse, kl=gaussian_kl(posterior, prior), smooth=smooth, elements=elements, logvar=logvar)

    def _posterior(self, values: Tensor, code: Tensor) -> Gaussian:
        posterior: Gaussian
        if self.config.network == "basis":
            posterior = self.encoder(torch.cat([values, code], dim=1))
            return posterior
        # A unit-sum kernel's elements are near 1 / K^2; times K they are of the order of one, like the code.
        pixels = values * self.config.kernel_px
        if self.config.network == "conv":
            posterior = self.encoder(pixels)
        else:
            posterior = self.encoder(torch.cat([pixels.flatten(1), code], dim=1))
        return posterior

    def _prior(self, code: Tensor) -> Gaussian:
        if self.config.prior == "standard":
            return standard_normal(code.new_empty(len(code), self.config.latent_dim))
        prior: Gaussian = self.prior_network(code)
        return prior

    def _values(self, z: Tensor, code: Tensor) -> Tensor:
        """What the decoder says of a kernel: pixels of unit sum [B, C, K, K], or scores [B, R]."""
        alone = self.config.network == "conv" and self.config.prior == "learned"
        raw = at_least_float32(self.decoder(z if alone else torch.cat([z, code], dim=1)))
        if self.config.network == "basis":
            scores: Tensor = raw
            return scores
        return constrain(raw.view(-1, self.config.channels, self.config.kernel_px, self.config.kernel_px))

    def _kernels(self, values: Tensor, points: Tensor) -> Tensor:
        """Kernels [B, C, K, K] of what the decoder says, at points [B, d]."""
        config = self.config
        if config.network != "basis":
            return values
        mirrored = config.turned is not None
        light = expand(values * self.scale, self.mean, self.components, config.channels, mirrored)
        if config.turned is None:
            light = light.clamp_min(0)
            return light / light.sum(dim=(-2, -1), keepdim=True)
        kernels: Tensor = self.turning(light, config.turned.azimuth(points.to(values)))
        return kernels
