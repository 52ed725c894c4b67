"""The system `vae_image`: variational autoencoders of small images."""

from __future__ import annotations

from spaces.metrics import TRAINING_METRICS, Metric, metric_table
from spaces.system import Baseline, System
from trainables.images.image_data import ImageData
from trainables.images.trial import VaeImageTrial

METRICS = metric_table(
    # Held-out images, fixed noise, beta = 1: comparable between trials, whatever they were trained with.
    Metric(
        "val/nll",
        "nats",
        "min",
        "-log p(x), the importance-weighted bound of 16 samples (64 at the test set); of an image of 0s and 1s, or of "
        "256 levels",
        title="NLL (nats)",
        per_item=True,
    ),
    Metric("val/bpd", "bits", "min", "the same per value of the image"),
    Metric("val/elbo", "nats", "max", "evidence lower bound: the mean of the log-weights that val/nll is made of"),
    Metric("val/iwae_gap", "nats", None, "val/nll above -val/elbo: how far the posterior is from the true one"),
    Metric("val/kl", "nats", None, "KL(q(z|x) || p(z)) per image, raw: no weight, no free bits"),
    Metric("val/active_units", "dims", None, "latent dimensions whose posterior mean varies by more than 0.01"),
    Metric("val/psnr", "dB", "max", "PSNR of decode(mu) for a range of 1, the mean over images"),
    *TRAINING_METRICS,
    Metric(
        "train/effective_beta", "1", None, "nats of likelihood that a nat of KL weighs, a mean since the last report"
    ),
    Metric("train/distortion", "nats", None, "-log p(x|z) per image, a density's for continuous likelihoods"),
)

SYSTEM = System(
    name="vae_image",
    version=1,
    trial=VaeImageTrial,
    data=ImageData,
    metrics=METRICS,
    baselines=(
        Baseline("independent_pixels", "independent pixels"),
        Baseline("ppca", "probabilistic PCA"),
    ),
    item="image",
    what="image files",
    preparation="trainables.images.preparation:ImagePreparation",
    learner="trainables.images.learner:ImageLearner",
)
