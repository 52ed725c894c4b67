"""What a variational autoencoder of images computes: batches, losses, likelihoods, pictures.

Shape legend: B = batch, S = samples of z, L = latent dimension, C = channel, H, W = pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeplens_workers.threads import one_thread
from spaces.card import Card
from spaces.study import Study
from trainables.images.baselines import predict_baselines
from trainables.images.card import image_card
from trainables.images.data import ImageSplit, ImageTensors
from trainables.images.evaluation import TEST_IMAGES, TEST_SAMPLES, evaluate, likelihoods
from trainables.images.figures import save_figures
from trainables.images.image_data import ImageData
from trainables.images.pictures import reconstruction_image, sample_image
from trainables.images.trial import SPACES, VaeImageTrial
from trainables.learner import Judged, Learner
from trainables.networks.vae import VAE, VaeConfig, VaeTerms
from trainables.timing import fastest
from trainables.training.bounds import iwae
from trainables.training.losses import Ranks, kl_loss

TIMED_IMAGES = 32
"""An image's time does not depend on how many there are, and a full test set takes seconds."""


class ImageLearner(Learner[VaeImageTrial, ImageTensors, VAE, ImageSplit]):
    """The learner of `vae_image`."""

    def open(self, sets: Mapping[str, str], device: str | torch.device = "cpu") -> ImageTensors:
        return ImageTensors.load(sets, device)

    def build(self, trial: VaeImageTrial, data: ImageTensors) -> VAE:
        channels, height, width = data.train.shape
        if height != width:
            raise ValueError(f"images must be square, but got {height} x {width} pixels")
        names = {one.name for one in fields(VaeConfig)} & set(VaeImageTrial.model_fields)
        return VAE(VaeConfig(channels=channels, px=width, **trial.model_dump(include=names)))

    def rebuild(self, config: dict[str, Any]) -> VAE:
        return VAE(VaeConfig(**config))

    def draw(self, trial: VaeImageTrial, data: ImageTensors, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Indices [B] of images, noise [B, S, L] of the posterior, and chances [B, C, H, W] if pixels are drawn."""
        device, batch = data.device, trial.batch_size
        index = torch.randint(len(data.train), (batch,), generator=generator, device=device)
        noise = torch.randn(batch, trial.train_samples, trial.latent_dim, generator=generator, device=device)
        if not data.train.needs_chance(SPACES[trial.likelihood]):
            return index, noise
        return index, noise, torch.rand(batch, *data.train.shape, generator=generator, device=device)

    def inputs(self, trial: VaeImageTrial, data: ImageTensors, drawn: tuple[Tensor, ...]) -> tuple[Any, ...]:
        index, noise, *chance = drawn
        return data.train.pixels(index, SPACES[trial.likelihood], *chance), noise

    def loss(self, trial: VaeImageTrial, terms: VaeTerms, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
        """As `VaeImageTrial` has it. `distortion` is -log p(x|z) in nats per image, a density's for continuous pixels."""
        distortion = ranks.mean(-terms.log_likelihood.mean(dim=1), trial.batch_size)
        penalty, values = kl_loss(trial, terms.kl, kl_weight, ranks)
        if terms.log_ratio is None:
            loss = distortion + penalty
        else:
            bound = iwae(terms.log_likelihood + values["effective_beta"] * terms.log_ratio)
            loss = ranks.mean(-bound, trial.batch_size)
        return {
            "loss": loss,
            "distortion": distortion,
            **values,
        }

    def evaluate(self, network: VAE, data: ImageTensors) -> dict[str, float]:
        return evaluate(network, data.validation)

    def pictures(self, network: VAE, data: ImageTensors) -> dict[str, Tensor]:
        return {
            "reconstructions": reconstruction_image(network, data.validation),
            "samples": sample_image(network),
        }

    def open_test(self, sets: Mapping[str, str]) -> ImageSplit:
        return ImageSplit.load(sets["test"]).first(TEST_IMAGES)

    def judge(self, network: VAE, test: ImageSplit) -> Judged:
        """`nll` of every image; an image's time is that of its likelihood with as many samples."""
        x = test.fixed_pixels(network.likelihood.space)
        errors = likelihoods(network, x, TEST_SAMPLES).nll
        timed = x[:TIMED_IMAGES]
        with one_thread():
            _, seconds = fastest(lambda: likelihoods(network, timed, TEST_SAMPLES))
        size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        return Judged({"nll": errors}, size, seconds / len(timed))

    def baselines(self, sets: Mapping[str, str], test: ImageSplit, winner: VAE) -> dict[str, Judged]:
        return predict_baselines(ImageSplit.load(sets["train"]), test, winner.config.latent_dim)

    def figures(self, network: VAE, test: ImageSplit, directory: Path) -> None:
        save_figures(network, test, directory)

    def card(self, study: Study, source: str) -> Card:
        assert isinstance(study.data, ImageData)
        return image_card(study.data)
