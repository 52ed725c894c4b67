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
        "-log p(x) of an image of 0s and 1s, the importance-weighted bound of 16 samples (64 at the test set)",
        title="NLL (nats)",
        per_item=True,
    ),
    Metric(
        "val/bpd",
        "bits",
        "min",
        "-log2 of the mass of an image of 256 levels per value, likewise: a Gaussian of one fitted variance about the decoder's "
        "mean image, whatever the loss",
        title="bits/dim",
        per_item=True,
    ),
    Metric(
        "val/bpd_own",
        "bits",
        "min",
        "the same under the model's own likelihood, where it has one of 256 levels",
        title="own bits/dim",
        per_item=True,
        diagnostic=True,
    ),
    Metric("val/elbo", "nats", "max", "evidence lower bound of what val/nll or val/bpd is the tighter bound of"),
    Metric("val/iwae_gap", "nats", None, "what that bound is tighter by: how far the posterior is from the true one"),
    Metric("val/rmse_levels", "levels", "min", "of one posterior sample on training images: the Gaussian of val/bpd"),
    Metric("val/kl", "nats", None, "KL(q(z|x) || p(z)) per image, raw: no weight, no free bits"),
    Metric("val/active_units", "dims", None, "latent dimensions whose posterior mean varies by more than 0.01"),
    Metric("val/mutual_information", "nats", None, "of images and latents; at most the log of the number of images"),
    Metric("val/prior_gap", "nats", "min", "lower bound on KL(q(z) || p(z)): how far latents are from the prior"),
    Metric(
        "val/psnr",
        "dB",
        "max",
        "PSNR of decode(mu) for a range of 1, the mean over images",
        title="PSNR (dB)",
        per_item=True,
        diagnostic=True,
    ),
    Metric(
        "val/ssim",
        "1",
        "max",
        "structural similarity of decode(mu), the mean over images",
        title="SSIM",
        per_item=True,
        diagnostic=True,
    ),
    Metric("val/ms_ssim", "1", "max", "the same over scales, as many of five as the images' size allows"),
    Metric(
        "val/frechet_pca64",
        "1",
        "min",
        "Fréchet distance of prior samples and held-out images in 64 principal components; no FID",
    ),
    *TRAINING_METRICS,
    Metric(
        "train/effective_beta",
        "1",
        None,
        "what a nat of KL weighs in nats of likelihood, or in the distances' sum over an image; a mean since the last report",
    ),
    Metric("train/distortion", "nats", None, "-log p(x|z) per image, a density's for continuous likelihoods"),
    # Of a trial that has a weight for them, before that weight.
    Metric("train/l1", "1", None, "mean absolute difference of pixels in [0, 1], the mean over scales"),
    Metric("train/dissimilarity", "1", None, "1 - SSIM, the mean over scales"),
    Metric("train/spectral", "1", None, "mean difference of Fourier coefficients, of the spectrum's kind"),
    Metric("train/perceptual", "1", None, "mean squared difference of VGG16's features, the sum over three layers"),
)

SYSTEM = System(
    name="vae_image",
    version=1,
    trial=VaeImageTrial,
    data=ImageData,
    metrics=METRICS,
    baselines=(
        Baseline("independent_pixels", "independent pixels"),
        Baseline("png", "PNG files"),
        Baseline("webp", "lossless WebP files"),
        Baseline("denoiser", "denoising autoencoder"),
        Baseline("ppca", "probabilistic PCA"),
    ),
    item="image",
    what="image files",
    preparation="trainables.images.preparation:ImagePreparation",
    learner="trainables.images.learner:ImageLearner",
)
