"""Hyperparameters of the variational autoencoders of images."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from spaces.trial import Trial

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
}
"""Likelihood -> the pixels it is one of: 0 or 1; grey values in [0, 1], levels with noise between them; 256 levels."""


class VaeImageTrial(Trial):
    """A variational autoencoder of images with the prior N(0, I).

    The loss of one step is, in nats per image,

        -log p(x|z)  +  kl_weight(t) * KL_free

    or, with `train_samples` k > 1, the importance-weighted bound -log 1/k sum_k exp(log p(x|z_k) + kl_weight(t) *
    (log p(z_k) - log q(z_k|x))) (Burda et al. 2016), which is theirs at kl_weight = 1.
    """

    # Loss
    kl_weight: float = Field(1.0, ge=0, description="weight of the KL term; 1: the evidence lower bound")
    likelihood: Likelihood = "bernoulli"
    decoder_variance: float = Field(0.01, gt=0, description="gaussian_fixed: of a pixel, its values in [0, 1]")
    charbonnier_epsilon: float = Field(1e-3, gt=0, description="charbonnier: error below which it is quadratic")
    train_samples: int = Field(1, ge=1, description="samples of z per image in the loss; above 1: the IWAE bound")
    # Network
    network: Literal["mlp", "conv", "resnet"] = "conv"
    latent_dim: int = Field(32, ge=1)
    base_width: int = Field(
        16, ge=1, description="of conv and resnet: channels at half the resolution, doubled at a quarter"
    )
    hidden_dim: int = Field(400, ge=1, description="units of the hidden linear layers")

    @model_validator(mode="after")
    def _check_bound(self) -> Self:
        if self.train_samples > 1 and self.free_bits > 0:
            raise ValueError(
                "`free_bits` has no part in the bound of several samples: `free_bits = 0` or `train_samples = 1` must hold, "
                f"but got (free_bits={self.free_bits}, train_samples={self.train_samples})"
            )
        return self
