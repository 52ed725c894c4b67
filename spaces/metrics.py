"""The one table of metrics: every number a trial reports is named, given a unit and a direction here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One reported number. `mode` is None for a diagnostic that has no better direction."""

    name: str
    unit: str
    mode: Mode | None
    meaning: str


def _table(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _table(
    # Held-out positions, fixed weights: comparable between trials.
    Metric(
        "val/prior_rel_l2", "1", "min", "mean ||K_hat - K|| / ||K|| of decode(mu_prior(c)) at positions off the grid"
    ),
    Metric("val/prior_psnr", "dB", "max", "peak-normalised PSNR of the prior path off the grid"),
    Metric("val/prior_centroid_px", "px", "min", "mean distance between the centroids of prior-path and true kernels"),
    Metric("val/prior_radius_error_px", "px", "min", "mean absolute error of the kernel's RMS radius"),
    Metric("val/posterior_rel_l2", "1", "min", "mean ||K_hat - K|| / ||K|| of decode(mu_posterior(K, c)) off the grid"),
    Metric("val/prior_gap", "1", "min", "prior-path minus posterior-path relative L2: what the prior fails to predict"),
    Metric("val/kl", "nats", None, "KL(q(z|K,c) || p(z|c)) per sample, raw: no weight, no free bits"),
    Metric("val/active_units", "dims", None, "latent dimensions whose mu_q - mu_p varies by more than 0.01"),
    # The training objective's terms, each before its weight.
    Metric("train/loss", "1", None, "the weighted sum that is minimised; not comparable between trials"),
    Metric("train/mse", "1", None, "mean squared error per kernel element"),
    Metric("train/kl", "nats", None, "raw KL per sample"),
    Metric("train/kl_free", "nats", None, "KL per sample after free bits: what the loss sees"),
    Metric("train/smooth", "1", None, "smoothness term over sampled neighbour pairs of the grid"),
    Metric("train/kl_weight", "1", None, "KL weight after warm-up schedule at this step"),
    Metric("train/decoder_variance", "1", None, "variance of the Gaussian decoder per kernel element"),
    Metric("train/effective_beta", "1", None, "beta of a unit-variance Gaussian decoder with summed reductions"),
    Metric("train/learning_rate", "1", None, "learning rate at this step"),
    Metric("train/grad_norm", "1", None, "gradient norm before clipping"),
    Metric("train/steps_per_second", "1/s", "max", "optimizer steps per second since the last report"),
    Metric(
        "train/fresh_share", "1", None, "with data.stream: fresh kernels per kernel drawn; 1/reuse if renderers keep up"
    ),
    # Sealed test positions: read only once a winner is chosen.
    Metric("test/prior_rel_l2", "1", "min", "as val/prior_rel_l2, at the sealed test positions"),
    Metric("test/prior_psnr", "dB", "max", "as val/prior_psnr, at the sealed test positions"),
    Metric("test/prior_centroid_px", "px", "min", "as val/prior_centroid_px, at the sealed test positions"),
    Metric("test/prior_radius_error_px", "px", "min", "as val/prior_radius_error_px, at the sealed test positions"),
)

# What a search may optimise: a direction, held-out data, and no swept weight inside.
OBJECTIVES = tuple(name for name, m in METRICS.items() if m.mode is not None and name.startswith("val/"))
