"""The system `cvae_asbuilt`: a conditional VAE of all manufactured lenses of a design."""

from __future__ import annotations

from deeplens_workers.asbuilt_data import AsBuiltData
from spaces.metrics import TRAINING_METRICS, Metric, metric_table
from spaces.system import Baseline, System
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.psf.system import FRESH_SHARE


def _error(name: str, observed: str, title: str) -> Metric:
    return Metric(
        name,
        "1",
        "min",
        f"mean ||K_hat - K|| / ||K|| at held-out positions of a unit of which {observed}",
        title=title,
        per_item=True,
        ratio=True,
    )


METRICS = metric_table(
    # Held-out units, z = the posterior's mean: comparable between trials.
    _error("val/rel_l2", "4 PSFs are observed", "rel. L2, 4 PSFs"),
    _error("val/rel_l2_1", "the PSF at the centre is observed", "1 PSF"),
    _error("val/rel_l2_9", "9 PSFs are observed", "9 PSFs"),
    _error("val/rel_l2_25", "25 PSFs are observed", "25 PSFs"),
    Metric(
        "val/coverage",
        "1",
        None,
        "share of RMS radii inside the central 90 % of 99 draws with 4 PSFs observed: 0.9 of an honest posterior",
        title="in 90 %",
        per_item=True,
    ),
    Metric("val/kl", "nats", None, "KL(q(z given 4 PSFs) || p(z)) per unit, raw: no weight, no free bits"),
    Metric("val/active_units", "dims", None, "latent dimensions whose posterior mean varies by more than 0.01"),
    *TRAINING_METRICS,
    Metric(
        "train/mse",
        "1",
        None,
        "squared error of targets over the variance of all kernels; of `basis`, pixels far out count more",
    ),
    Metric("train/smooth", "1", None, "the same between predictions at neighbouring positions"),
    Metric("train/decoder_variance", "1", None, "variance of the Gaussian decoder, in units of the kernels' own"),
    FRESH_SHARE,
)

SYSTEM = System(
    name="cvae_asbuilt",
    version=4,
    trial=AsBuiltTrial,
    data=AsBuiltData,
    metrics=METRICS,
    baselines=(
        Baseline("fitted", "tolerances fitted by ray tracing", asks_the_source=True),
        Baseline("oracle", "true tolerances, same decoder"),
        Baseline("nominal", "nominal lens"),
        Baseline("interpolated", "interpolation of the observed"),
        Baseline("corrected", "nominal corrected by the observed"),
        Baseline("linear", "linear effects, ridge"),
        Baseline("gaussian", "linear-Gaussian model of units"),
    ),
    item="unit",
    what="lens",
    preparation="deeplens_workers.asbuilt_preparation:AsBuiltPreparation",
    learner="trainables.asbuilt.learner:AsBuiltLearner",
    doing="tracing units",
)
