"""Hyperparameters of the variational autoencoders of images."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from spaces.trial import Trial
from trainables.sizes import LATENT_SIDE, NETWORKS, check_ssim

Likelihood = Literal[
    "bernoulli",
    "continuous_bernoulli",
    "gaussian_half",
    "gaussian_fixed",
    "gaussian_learned",
    "gaussian_optimal",
    "gaussian_pixel",
    "laplace",
    "charbonnier",
    "logistic",
    "none",
]

SPACES: dict[str, Literal["binary", "unit", "levels"]] = {
    "bernoulli": "binary",
    "continuous_bernoulli": "unit",
    "gaussian_half": "unit",
    "gaussian_fixed": "unit",
    "gaussian_learned": "unit",
    "gaussian_optimal": "unit",
    "gaussian_pixel": "unit",
    "laplace": "unit",
    "charbonnier": "unit",
    "logistic": "levels",
    "none": "levels",
}
"""Likelihood -> the pixels it is one of: 0 or 1; grey values in [0, 1], levels with noise between them; 256 levels."""

SPATIAL = ("residual",)
"""Networks whose latent is an image; the others' are vectors."""
DISTANCES = {
    "l1": "l1_weight",
    "dissimilarity": "ssim_weight",
    "spectral": "spectral_weight",
    "perceptual": "perceptual_weight",
}
"""Distance between images -> the hyperparameter that is its weight."""


class VaeImageTrial(Trial):
    """A variational autoencoder of images with the prior N(0, I).

    The loss of one step is, in nats per image of D values,

        -log p(x|z)  +  D * distances  +  kl_weight(t) * KL_free

    where `distances` is the weighted sum of l1, 1 - SSIM, spectral and perceptual, each a mean over an image's values: a weight of 0.1
    stands beside -log p(x|z) / D. Without a likelihood there are no nats, and the loss is distances + kl_weight(t) * KL_free.
    With `train_samples` k > 1 it is the importance-weighted bound -log 1/k sum_k exp(log p(x|z_k) + kl_weight(t) *
    (log p(z_k) - log q(z_k|x))) (Burda et al. 2016), which is theirs at kl_weight = 1.
    """

    # Loss
    kl_weight: float = Field(1.0, ge=0, description="weight of the KL term; 1: the evidence lower bound")
    likelihood: Likelihood = Field("bernoulli", description="none: distances alone")
    decoder_variance: float = Field(0.01, gt=0, description="gaussian_fixed: of a pixel, its values in [0, 1]")
    charbonnier_epsilon: float = Field(1e-3, gt=0, description="charbonnier: error below which it is quadratic")
    train_samples: int = Field(1, ge=1, description="samples of z per image in the loss; above 1: the IWAE bound")
    l1_weight: float = Field(0.0, ge=0, description="of the mean absolute difference")
    ssim_weight: float = Field(0.0, ge=0, description="of 1 - SSIM")
    scales: int = Field(1, ge=1, description="of l1 and ssim: image sizes, each half the one before; their mean counts")
    spectral_weight: float = Field(0.0, ge=0, description="of the difference of Fourier coefficients")
    spectrum: Literal["complex_l1", "log_magnitude", "radial"] = Field(
        "complex_l1",
        description="of spectral: complex differences, of magnitudes' logarithms, or weighted by frequency",
    )
    perceptual_weight: float = Field(0.0, ge=0, description="of the difference of VGG16's features; needs data.vgg16")
    # Network
    network: Literal["mlp", "conv", "resnet", "residual", "bottleneck"] = Field(
        "conv", description="of encoder and decoder: linear layers, convolutions, or blocks of these with skips"
    )
    latent_dim: int = Field(32, ge=1, description="of all but residual")
    latent_channels: int = Field(8, ge=1, description="of residual, whose latent has so many channels of 8 x 8")
    levels: int = Field(2, ge=1, description="of conv, resnet and bottleneck: halvings of the image's side")
    base_width: int = Field(
        16,
        ge=1,
        description="of all but mlp: channels at half the resolution, of bottleneck at the full one, doubled at each "
        "further halving",
    )
    hidden_dim: int = Field(400, ge=1, description="of mlp, conv and resnet: units of the hidden linear layers")
    norm: Literal["batch", "group", "none"] = Field("batch", description="of residual")
    upsampling: Literal["transposed3", "transposed4", "bilinear"] = Field("bilinear", description="of residual")
    convs: int = Field(2, ge=1, description="of residual: convolutions of a decoder's block")
    attention: bool = Field(True, description="of residual: over 16 x 16 pixels")
    blocks: int = Field(2, ge=0, description="of bottleneck: blocks of each level")
    se_ratio: int = Field(4, ge=1, description="of bottleneck: channels over hidden units of squeeze-and-excitation")
    layerscale: float = Field(1e-6, gt=0, description="of bottleneck: first factor of a block's branch")
    ppca: bool = Field(
        False,
        description="the network says what it adds to probabilistic PCA of the training images, with as many latents",
    )

    @property
    def latents(self) -> int:
        """L, how many numbers a latent has."""
        return self.latent_channels * LATENT_SIDE**2 if self.network in SPATIAL else self.latent_dim

    @property
    def distances(self) -> dict[str, float]:
        """Weights of the distances that have one."""
        weights: dict[str, float] = {name: getattr(self, field) for name, field in DISTANCES.items()}
        return {name: weight for name, weight in weights.items() if weight}

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.likelihood == "none" and not self.distances:
            names = ", ".join(f"`{field}`" for field in DISTANCES.values())
            raise ValueError(f"`likelihood: none` leaves distances alone: one of {names} must be above 0")
        if self.ppca and self.likelihood == "continuous_bernoulli":
            raise ValueError(
                "`ppca` goes with every likelihood but continuous_bernoulli, whose mean has no inverse in closed form"
            )
        if self.scales > 1 and not (self.l1_weight or self.ssim_weight):
            raise ValueError(
                f"`scales` are those of `l1_weight` and `ssim_weight`, which are both 0, but got (scales={self.scales})"
            )
        if self.train_samples > 1 and self.free_bits > 0:
            raise ValueError(
                "`free_bits` has no part in the bound of several samples: `free_bits = 0` or `train_samples = 1` must hold, "
                f"but got (free_bits={self.free_bits}, train_samples={self.train_samples})"
            )
        if self.train_samples > 1 and self.distances:
            raise ValueError(
                "the bound of several samples is one of a likelihood alone: `train_samples = 1` must hold, or all weights of "
                f"distances be 0, but got (train_samples={self.train_samples}, {', '.join(self.distances)})"
            )
        return self

    def check_px(self, px: int) -> None:
        """Whether images of px x px pixels can be trained on.

        Raises:
            ValueError: they cannot: what would do.
        """
        NETWORKS[self.network](px, self.levels)
        if self.ssim_weight:
            check_ssim(px, self.scales)
