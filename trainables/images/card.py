"""What the card of an exported VAE of images says of pixels, units and limits."""

from __future__ import annotations

from spaces.card import Card
from trainables.images.evaluation import TEST_IMAGES, TEST_SAMPLES
from trainables.images.image_data import ImageData

PIXELS = {
    "none": "grey levels 0 to 255",
    "static": "0s and 1s, each pixel drawn once with its grey value as the chance of a 1",
    "dynamic": "0s and 1s, each pixel drawn with its grey value as the chance of a 1, anew whenever it was trained on",
}


def image_card(data: ImageData) -> Card:
    """The card of a model of a collection of images."""
    mass = "0s and 1s" if data.binarise != "none" else "256 levels"
    return Card(
        title=f"VAE of {data.images}",
        intro=f"A variational autoencoder with the prior N(0, I), trained on the images of {data.images}, their pixels "
        f"{PIXELS[data.binarise]}.",
        usage=(
            "samples = model.generate(torch.randn(16, model.config.latent_dim))",
            "posterior = model.encode(samples)",
            "again = model.generate(posterior.mu)",
        ),
        units=(
            "images: [N, C, H, W] in [0, 1]; `generate` and `reconstruct` give the mean of each pixel, not a draw",
            "latents: [N, L], standard normal under the prior",
            "log-likelihoods: nats per image",
        ),
        test=f"-log p(x) in nats, a mean over at most {TEST_IMAGES:,} sealed test images, each by the importance-weighted "
        f"bound of {TEST_SAMPLES} samples with fixed noise; the KL weight that a model was trained with has no part in it.",
        remark=f"The likelihood is the mass of an image of {mass}"
        + (
            "; a density's mean over a level's width is a lower bound of that level's mass."
            if data.binarise == "none"
            else ", binarised once for all models."
        )
        + " The bound rises with the number of samples, so only equal numbers compare. Probabilistic PCA has as many "
        "latents as this model. Time: of one image's bound.",
        limits=(
            "Images of one kind and size; of others the likelihood says little.",
            "A high likelihood is no guarantee of good samples: look at `samples.png`.",
            "No model saw labels: what a latent dimension means is by chance.",
        ),
    )
