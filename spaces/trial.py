"""Hyperparameters that every training has; each system adds its own."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from spaces.frozen import Frozen


class Trial(Frozen):
    """How a variational autoencoder is trained, whatever its network and its data.

    The loss of one step is reconstruction + kl_weight(t) * KL_free + what the system adds, with the KL in nats per sample.
    """

    # Loss
    kl_weight: float = Field(1e-4, ge=0, description="weight of the KL term (nats per sample)")
    kl_schedule: Literal["constant", "linear", "cosine", "cyclical"] = Field(
        "constant", description="factor on the KL weight over the first `kl_warmup` of the budget"
    )
    kl_warmup: float = Field(0.0, ge=0, le=1, description="warm-up length as a fraction of the full budget")
    kl_cycles: int = Field(4, ge=1, description="number of ramps of the cyclical schedule")
    kl_reduction: Literal["sum", "mean"] = Field(
        "sum", description="over latent dimensions: nats per sample, or nats per dimension"
    )
    target_rate: float = Field(
        0.0, ge=0, description="KL in nats per sample that the weight, starting at kl_weight, is steered to; 0: none"
    )
    free_bits: float = Field(0.0, ge=0, description="floor on the batch-mean KL in nats")
    free_bits_per: Literal["dimension", "sample"] = Field("dimension", description="what has that floor")
    # Optimizer
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="torch's")
    learning_rate: float = Field(1e-4, gt=0, description="the largest, where there is a schedule")
    lr_schedule: Literal["constant", "cosine", "cosine_restarts", "one_cycle"] = Field(
        "constant", description="of the learning rate over the full budget"
    )
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
