"""Hyperparameters of models whose decoder errs by a squared error."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spaces.trial import Trial


class SquaredErrorTrial(Trial):
    """The loss of one step is, in this order of terms,

        reconstruction  +  kl_weight(t) * KL_free  +  smooth_weight * smoothness

    with the reconstruction recon_scale * MSE or, if the decoder's variance is learned or optimal, its negative
    log-likelihood in nats per sample; the KL in nats per sample.
    """

    recon_scale: float = Field(1.0, gt=0, description="multiplies the MSE; implies the fixed decoder's variance")
    decoder_variance: Literal["fixed", "learned", "optimal"] = Field(
        "fixed", description="of the Gaussian decoder; optimal: each batch's own mean squared error"
    )
    smooth_weight: float = Field(0.0, ge=0, description="weight of the smoothness term")
