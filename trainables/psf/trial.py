"""Hyperparameters of the conditional VAE of PSF kernels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainables.training.squared_error_trial import SquaredErrorTrial


class CvaePsfTrial(SquaredErrorTrial):
    """A conditional VAE of PSF kernels with a learned prior p(z given c), c = field position (and depth, and focus distance).

    The MSE is the mean over a kernel's elements, the smoothness the mean over pairs of grid neighbours. Defaults are the values of the
    CVAE-PSF implementation summary (docs/science.md) wherever it names one.
    """

    # Loss
    smooth_weight: float = Field(1e-3, ge=0, description="weight of the smoothness term")
    smooth_term: Literal["mu", "kl", "output"] = Field(
        "mu", description="of what neighbours are alike: the prior's mean, the prior, or the kernel it decodes to"
    )
    smooth_pairs: int = Field(64, ge=1, description="neighbour pairs drawn per step, over all workers")
    # Network
    network: Literal["mlp", "conv", "basis"] = Field(
        "mlp", description="of pixels by linear layers or by convolutions, or of principal components' scores"
    )
    prior: Literal["learned", "standard"] = Field(
        "learned",
        description="p(z given c) of its own network, or N(0, I); a decoder of `conv` is given c beside z only with `standard`",
    )
    latent_dim: int = Field(128, ge=1, description="numbers of the latent")
    hidden_dim: int = Field(512, ge=1, description="units of a hidden layer")
    num_layers: int = Field(4, ge=1, description="hidden layers of encoder, prior and decoder each")
    encoder_layers: int = Field(0, ge=0, description="those of encoder and prior, if others; 0: num_layers")
    fourier_bands: int = Field(10, ge=0, le=16, description="sin/cos pairs per coordinate, frequencies 2^k pi")
    defocus: bool = Field(
        False, description="the vergence of the depth minus that of the focus is a condition too, where both vary"
    )
    components: int = Field(128, ge=1, le=256, description="principal components of `basis`")
    base_width: int = Field(32, ge=1, description="channels of the first level of `conv`, which doubles three times")
    norm: Literal["batch", "group", "none"] = Field("batch", description="of `conv`")
    upsampling: Literal["transposed3", "transposed4", "bilinear"] = Field("transposed3", description="of `conv`")
