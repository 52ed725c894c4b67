"""Hyperparameters of the conditional VAE of manufactured lenses."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.training.squared_error_trial import SquaredErrorTrial


class AsBuiltTrial(SquaredErrorTrial):
    """A CVAE whose latent z says which manufactured lens it is: q(z given observed PSFs), decode(z, x, y).

    A sample is one unit, so `batch_size` counts units and the KL is in nats per unit. The MSE is the squared relative L2 error of a
    unit's target kernels in units of the variance of all kernels: 1 if each is taken for their mean. Scores (`network: basis`) are of
    kernels whose pixels far out count more (`basis.pixel_weights`). The smoothness is the same between predictions at neighbouring
    positions.
    """

    # Batch
    targets: int = Field(8, ge=1, description="kernels of a unit that are predicted per step")
    mirrored: bool = Field(
        True, description="each unit of a batch is one of its mirror images, which are units as well"
    )
    observed_noise: float = Field(
        0.0, ge=0, lt=1, description="white noise of observed kernels, relative to their norm"
    )
    observed_shift_px: float = Field(
        0.0, ge=0, le=2, description="standard deviation of observed kernels' unknown centres along x and y, in pixels"
    )
    # Network
    network: Literal["basis", "mlp"] = Field(
        "basis", description="what the decoder predicts: scores of principal components, or pixels"
    )
    components: int = Field(
        192, ge=8, le=384, description="principal components that the encoder is given, and `basis` predicts"
    )
    pooling: Literal["mean", "attention"] = Field(
        "mean", description="of what the encoder makes of each observed kernel"
    )
    prior: Literal["standard", "learned"] = Field(
        "standard", description="p(z): N(0, I), or a Gaussian of trained mean and variance"
    )
    latent_dim: int = Field(24, ge=1, description="numbers of the latent")
    hidden_dim: int = Field(512, ge=1, description="units of a hidden layer")
    num_layers: int = Field(3, ge=1, description="hidden layers of the decoder")
    encoder_layers: int = Field(2, ge=1, description="hidden layers before the pooling; one comes after it")
    fourier_bands: int = Field(3, ge=0, le=10, description="sin/cos pairs per coordinate, frequencies 2^k pi")
