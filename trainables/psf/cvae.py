"""The conditional VAE of PSF kernels: q(z|K,c), a learned prior p(z|c), and a decoder K_hat(z, c).

In one's own rendering code:

    from results import load_model
    model = load_model("results/runs/NAME/model")
    kernels = model.predict(torch.tensor([[0.0, 0.5]]))  # x, y in [-1, 1] -> [1, C, K, K], unit sum per channel

Shape legend: B = batch, C = channel, K = kernel side in pixels, L = latent dimension, P = neighbour pairs,
d = condition dimension: x, y, then what else the model knows of depth and focus distance, in mm.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainables.learner import Network
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.networks.mlp import MLP, FourierEncoding, GaussianMLP, LearnedVariance, constrain, scale_conditions
from trainables.psf.losses import Terms
from trainables.psf.trial import CvaePsfTrial
from trainables.training.losses import squared_distance


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

    @classmethod
    def of(
        cls, trial: CvaePsfTrial, *, channels: int, kernel_px: int, diopter_ranges: dict[str, tuple[float, float]]
    ) -> CvaeConfig:
        """The network of a trial for kernels [C, K, K]."""
        return cls(
            channels,
            kernel_px,
            diopter_ranges,
            latent_dim=trial.latent_dim,
            hidden_dim=trial.hidden_dim,
            num_layers=trial.num_layers,
            fourier_bands=trial.fourier_bands,
            learned_variance=trial.decoder_variance == "learned",
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CvaeConfig:
        """Inverse of `dataclasses.asdict`, also after a way through JSON."""
        ranges = {name: (float(low), float(high)) for name, (low, high) in values["diopter_ranges"].items()}
        return cls(**{**values, "diopter_ranges": ranges})

    @property
    def conditions(self) -> list[str]:
        """What the d coordinates of a point are."""
        return ["x", "y", *self.diopter_ranges]


class CVAE(Network):
    """CVAE with a learned prior. All methods take field points in physical units: x, y in [-1, 1], mm < 0."""

    def __init__(self, config: CvaeConfig) -> None:
        super().__init__()
        self.config = config
        elements = config.channels * config.kernel_px**2
        hidden, layers, latent = config.hidden_dim, config.num_layers, config.latent_dim
        self.encoding = FourierEncoding(len(config.conditions), config.fourier_bands)
        code = self.encoding.dim
        self.encoder = GaussianMLP((elements, code), hidden, layers, latent)
        self.prior_network = GaussianMLP((code,), hidden, layers, latent)
        self.decoder = MLP((latent, code), hidden, layers, elements)
        if config.learned_variance:
            self.variance = LearnedVariance()

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
        points = points.to(self.decoder.head.weight.dtype)
        code: Tensor = self.encoding(scale_conditions(points, [*self.config.diopter_ranges.values()]))
        return code

    def encode(self, kernels: Tensor, points: Tensor) -> Gaussian:
        """Posterior q(z|K,c) of kernels [B, C, K, K] at points [B, d]."""
        return self._posterior(kernels, self.condition(points))

    def prior(self, points: Tensor) -> Gaussian:
        """Learned prior p(z|c) at points [B, d]."""
        prior: Gaussian = self.prior_network(self.condition(points))
        return prior

    def decode(self, z: Tensor, points: Tensor) -> Tensor:
        """Kernels [B, C, K, K] of latents [B, L] at points [B, d]."""
        return self._kernels(z, self.condition(points))

    def predict(self, points: Tensor) -> Tensor:
        """decode(mu_prior(c), c): the kernels [B, C, K, K] at points [B, d], differentiable in the points."""
        code = self.condition(points)
        return self._kernels(self.prior_network(code).mu, code)

    def sample(self, points: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw z ~ p(z|c) per point, decoded: [B, d] -> [B, C, K, K]."""
        code = self.condition(points)
        prior: Gaussian = self.prior_network(code)
        noise = torch.randn(prior.mu.shape, generator=generator, device=prior.mu.device)
        return self._kernels(prior.sample(noise), code)

    def forward(
        self,
        kernels: Tensor,
        points: Tensor,
        noise: Tensor,
        pairs: Tensor,
        smooth_term: Literal["mu", "kl", "output"] = "mu",
    ) -> Terms:
        """The loss's terms for a batch, unreduced.

        Args:
            kernels, points: [B, C, K, K] and [B, d].
            noise: [B, L] standard normal, for the posterior sample.
            pairs: [2, P, d] points of neighbours on the grid, for the smoothness term.
            smooth_term: what must vary smoothly: "mu" ||mu_i - mu_j||^2, "kl" KL(p(z|c_i) || p(z|c_j)), or "output"
                ||K_i - K_j||^2 of the predicted kernels. "mu" alone is also lowered by shrinking the latent space.
        """
        batch, count = len(points), pairs.shape[1]
        # The prior needs only coordinates: one call serves the batch and both ends of the pairs.
        codes = self.condition(torch.cat([points, pairs.flatten(0, 1)]))
        mu, spread = self.prior_network(codes)
        prior, first, second = map(Gaussian, mu.split([batch, count, count]), spread.split([batch, count, count]))
        posterior = self._posterior(kernels, codes[:batch])
        output = self._kernels(posterior.sample(noise), codes[:batch])
        if smooth_term == "mu":
            smooth = squared_distance(first.mu, second.mu)
        elif smooth_term == "kl":
            smooth = gaussian_kl(first, second).sum(dim=1)
        else:
            ends = self._kernels(mu[batch:], codes[batch:])
            smooth = squared_distance(ends[:count], ends[count:])
        mse = (output - kernels).square().flatten(1).mean(dim=1)
        logvar = self.variance() if self.config.learned_variance else None
        elements = kernels.shape[1:].numel()  # not of the first: a rank may have no part of a small batch
        return Terms(mse=mse, kl=gaussian_kl(posterior, prior), smooth=smooth, elements=elements, logvar=logvar)

    def _posterior(self, kernels: Tensor, code: Tensor) -> Gaussian:
        # A unit-sum kernel's elements are near 1 / K^2; times K they are of the order of one, like the code.
        pixels = kernels.flatten(1) * self.config.kernel_px
        posterior: Gaussian = self.encoder(torch.cat([pixels, code], dim=1))
        return posterior

    def _kernels(self, z: Tensor, code: Tensor) -> Tensor:
        raw = self.decoder(torch.cat([z, code], dim=1)).to(code.dtype)  # autocast's bfloat16 ends here
        return constrain(raw.unflatten(1, (self.config.channels, self.config.kernel_px, self.config.kernel_px)))
