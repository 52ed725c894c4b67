"""The system `cvae_psf`: a conditional VAE of a lens' kernels at field points."""

from __future__ import annotations

from deeplens_workers.psf_data import PsfData
from spaces.metrics import TRAINING_METRICS, Metric, metric_table
from spaces.system import Baseline, System
from trainables.psf.trial import CvaePsfTrial

FRESH_SHARE = Metric(
    "train/fresh_share", "1", None, "with data.stream: fresh kernels per kernel drawn; 1/reuse if renderers keep up"
)
METRICS = metric_table(
    # Held-out positions, fixed weights: comparable between trials.
    Metric(
        "val/prior_rel_l2",
        "1",
        "min",
        "mean ||K_hat - K|| / ||K|| of decode(mu_prior(c)) at positions off the grid",
        title="rel. L2",
        per_item=True,
        ratio=True,
    ),
    Metric(
        "val/prior_psnr",
        "dB",
        "max",
        "peak-normalised PSNR of the prior path off the grid",
        title="PSNR (dB)",
        per_item=True,
    ),
    Metric(
        "val/prior_centroid_px",
        "px",
        "min",
        "mean distance between the centroids of prior-path and true kernels",
        title="centroid (px)",
        per_item=True,
        ratio=True,
    ),
    Metric(
        "val/prior_radius_error_px",
        "px",
        "min",
        "mean absolute error of the kernel's RMS radius",
        title="radius (px)",
        per_item=True,
        ratio=True,
    ),
    Metric(
        "val/posterior_rel_l2",
        "1",
        "min",
        "mean ||K_hat - K|| / ||K|| of decode(mu_posterior(K, c)) at kernels that no batch has",
        ratio=True,
    ),
    Metric(
        "val/prior_gap",
        "1",
        "min",
        "prior-path minus posterior-path relative L2 of the same kernels: what the prior fails to predict",
    ),
    Metric("val/kl", "nats", None, "KL(q(z|K,c) || p(z|c)) per sample, raw: no weight, no free bits"),
    Metric("val/active_units", "dims", None, "latent dimensions whose mu_q - mu_p varies by more than 0.01"),
    *TRAINING_METRICS,
    Metric("train/mse", "1", None, "mean squared error per kernel element"),
    Metric("train/smooth", "1", None, "smoothness term over sampled neighbour pairs of the grid"),
    Metric("train/decoder_variance", "1", None, "variance of the Gaussian decoder per kernel element"),
    FRESH_SHARE,
)

SYSTEM = System(
    name="cvae_psf",
    version=2,
    trial=CvaePsfTrial,
    data=PsfData,
    metrics=METRICS,
    baselines=(
        Baseline("renderer", "ray tracing itself", asks_the_source=True),
        Baseline("psfnet", "DeepLens' PSFNetLens"),
        Baseline("nearest", "nearest"),
        Baseline("bilinear", "bilinear"),
        Baseline("bicubic", "bicubic"),
        Baseline("pca_rbf", "PCA + RBF"),
        Baseline("rbf_cubic", "cubic RBF"),
        Baseline("bicubic_small", "bicubic, small"),
        Baseline("turned", "turned spline"),
        Baseline("turned_small", "turned spline, small"),
        Baseline("components", "component spline"),
        Baseline("components_small", "component spline, small"),
    ),
    item="PSF",
    what="lens",
    preparation="deeplens_workers.preparation:PsfPreparation",
    learner="trainables.psf.learner:CvaePsfLearner",
    doing="rendering PSFs",
)
