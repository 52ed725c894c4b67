"""What the card of an exported VAE of images says of pixels, units and limits."""

from __future__ import annotations

from spaces.card import Card
from trainables.images.evaluation import TEST_IMAGES, TEST_SAMPLES
from trainables.images.image_data import ImageData

PIXELS = {
    "none": "levels 0 to 255",
    "static": "0s and 1s, each pixel drawn once with its grey value as the chance of a 1",
    "dynamic": "0s and 1s, each pixel drawn with its grey value as the chance of a 1, anew whenever it was trained on",
}
CREDITS = {
    "orl_faces": " The faces are the ORL Database of Faces; credit for them: AT&T Laboratories Cambridge.",
    "celeba": " CelebA is for non-commercial research (Liu et al. 2015).",
}
"""What the makers of a collection ask for."""
FILES = "PNG and WebP: each image as a lossless file of its own. "
OTHERS = (
    "Probabilistic PCA has as many latents as this model. A denoising autoencoder of the same network has no prior, so it gives "
    "no probability and no samples and is compared by its reconstructions. Time: of one image's bound."
)


def image_card(data: ImageData) -> Card:
    """The card of a model of a collection of images."""
    bits = data.binarise != "none"
    bound = (
        f"a mean over at most {TEST_IMAGES:,} sealed test images, each by the importance-weighted bound of {TEST_SAMPLES} samples "
        "with fixed noise; the KL weight that a model was trained with has no part in it."
    )
    return Card(
        title=f"VAE of {data.images}",
        intro=f"A variational autoencoder with the prior N(0, I), trained on the images of {data.images}, "
        f"{data.side} x {data.side} pixels, their values {PIXELS[data.binarise]}.{CREDITS.get(data.images, '')}",
        usage=(
            "samples = model.generate(torch.randn(16, model.config.latent_dim))",
            "posterior = model.encode(samples)",
            "again = model.generate(posterior.mu)",
        ),
        units=(
            "images: [N, C, H, W] in [0, 1]; `generate` and `reconstruct` give the mean of each pixel, not a draw",
            "latents: [N, L], standard normal under the prior",
            "log-likelihoods: nats per image" if bits else "bits/dim: bits per value of an image; 8 is a uniform guess",
        ),
        test=f"-log p(x) in nats, {bound}" if bits else f"-log2 p(x) per value of an image, {bound}",
        remark=(
            f"The likelihood is the mass of an image of 0s and 1s, binarised once for all models. {OTHERS}"
            if bits
            else "Bits/dim are those of a Gaussian about the mean image, with one variance fitted to training images and cut into "
            f"256 levels, whatever the loss; own bits/dim those of the model's own likelihood. {FILES}{OTHERS}"
        )
        + " The bound rises with the number of samples, so only equal numbers compare.",
        limits=(
            "Images of one kind and size; of others the likelihood says little.",
            "A high likelihood is no guarantee of good samples: look at `samples.png`.",
            "No model saw labels: what a latent dimension means is by chance.",
        ),
    )
