"""Hyperparameters of one trial: every name a space may search or fix, with its type, range and default."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Frozen(BaseModel):
    """Base of every configuration model: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CvaePsfTrial(Frozen):
    """A conditional VAE of PSF kernels with a learned prior p(z given c), c = field position (and depth, and focus distance).

    The loss of one step is, in this order of terms,

        reconstruction  +  kl_weight(t) * KL_free  +  smooth_weight * smoothness

    with the reconstruction recon_scale * MSE or, if the decoder's variance is learned or optimal, its negative
    log-likelihood in nats per sample; MSE the mean over kernel elements, KL in nats per sample and the smoothness a mean
    over pairs of grid neighbours. Defaults are the values of the CVAE-PSF implementation summary (docs/science.md) wherever
    it names one.
    """

    # Loss
    kl_weight: float = Field(1e-4, ge=0, description="weight of the KL term (nats per sample)")
    kl_schedule: Literal["constant", "linear", "cosine", "cyclical"] = "constant"
    kl_warmup: float = Field(0.0, ge=0, le=1, description="warm-up length as a fraction of the full budget")
    kl_cycles: int = Field(4, ge=1, description="number of ramps of the cyclical schedule")
    kl_reduction: Literal["sum", "mean"] = Field(
        "sum", description="over latent dimensions: nats per sample, or nats per dimension"
    )
    target_rate: float = Field(
        0.0, ge=0, description="KL in nats per sample that the weight, starting at kl_weight, is steered to; 0: none"
    )
    free_bits: float = Field(0.0, ge=0, description="floor on the batch-mean KL in nats")
    free_bits_per: Literal["dimension", "sample"] = "dimension"
    smooth_weight: float = Field(1e-3, ge=0, description="weight of the smoothness term")
    smooth_term: Literal["mu", "kl", "output"] = "mu"
    smooth_pairs: int = Field(64, ge=1, description="neighbour pairs drawn per step, over all workers")
    recon_scale: float = Field(1.0, gt=0, description="multiplies the MSE; implies the fixed decoder's variance")
    decoder_variance: Literal["fixed", "learned", "optimal"] = Field(
        "fixed", description="of the Gaussian decoder; optimal: each batch's own mean squared error"
    )
    # Network
    latent_dim: int = Field(128, ge=1)
    hidden_dim: int = Field(512, ge=1)
    num_layers: int = Field(4, ge=1, description="hidden layers of encoder, prior and decoder each")
    fourier_bands: int = Field(10, ge=0, le=16, description="sin/cos pairs per coordinate, frequencies 2^k pi")
    # Optimizer
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(1e-4, gt=0)
    lr_schedule: Literal["constant", "cosine", "cosine_restarts", "one_cycle"] = "constant"
    lr_warmup: float = Field(
        0.1, ge=0, lt=1, description="rising part of one_cycle and cosine_restarts, a fraction of the full budget"
    )
    lr_cycles: int = Field(3, ge=1, description="number of falls of cosine_restarts")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd's")
    weight_decay: float = Field(0.0, ge=0, description="decoupled in adamw, part of the gradient in adam and sgd")
    grad_clip: float = Field(1.0, ge=0, description="largest gradient norm; 0: any")
    accumulation: int = Field(1, ge=1, description="batches whose mean gradient makes one step")
    ema_width: float = Field(
        0.0, ge=0, le=0.25, description="relative width of the weights' moving average that is evaluated; 0: none"
    )
    batch_size: int = Field(64, ge=1, description="samples per batch over all workers")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the networks' matrix products while training, weights and losses are float32; "
        "auto: bfloat16 on hardware that multiplies it",
    )
    plateau: float = Field(
        0.0,
        ge=0,
        le=1,
        description="fraction of the full budget without a better report that ends a trial; 0: none does",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.target_rate and not self.kl_weight:
            raise ValueError(
                f"`target_rate` needs `kl_weight > 0`, but got (target_rate={self.target_rate}, kl_weight={self.kl_weight})"
            )
        return self


# Model name (the `model` key of a space) -> the hyperparameters it understands.
TRIALS: dict[str, type[Frozen]] = {"cvae_psf": CvaePsfTrial}
