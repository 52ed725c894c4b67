"""What a variational autoencoder of images computes: batches, losses, likelihoods, pictures.

Shape legend: B = batch, S = samples of z, L = latent dimension, C = channel, H, W = pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deeplens_workers.threads import one_thread, seeded
from spaces.card import Card
from spaces.explorer import Explorer
from spaces.study import Study
from spaces.system import Source
from trainables.images.baselines import predict_baselines
from trainables.images.card import image_card
from trainables.images.data import ImageTensors, TrainingImages
from trainables.images.denoising import denoiser
from trainables.images.evaluation import TEST_SAMPLES, encode, errors, evaluate, shown_images
from trainables.images.explorer import image_explorer
from trainables.images.image_data import ImageData
from trainables.images.objective import fitted_scale, of_network, scores
from trainables.images.pictures import reconstruction_image, sample_image
from trainables.images.sealed import ImageTest
from trainables.images.similarity import psnr
from trainables.images.trial import SPACES, VaeImageTrial
from trainables.learner import Judged, Learner, evaluating
from trainables.networks.vae import VAE, VaeConfig, VaeTerms
from trainables.packing import Packing
from trainables.timing import fastest
from trainables.training.bounds import iwae
from trainables.training.distances import Distances
from trainables.training.losses import Ranks, kl_loss
from trainables.training.ssim import ssim

if TYPE_CHECKING:  # a lane draws no figures and exports nothing
    from spaces.drawing import Figures
    from trainables.onnx_file import Graph

TIMED_IMAGES = 32
"""An image's time does not depend on how many there are, and a full test set takes seconds."""


class ImageLearner(Learner[VaeImageTrial, ImageTensors, VAE, ImageTest]):
    """The learner of `vae_image`."""

    packing = Packing(["free_bits"])

    def open(self, sets: Mapping[str, str], device: str | torch.device = "cpu") -> ImageTensors:
        return ImageTensors.load(sets, device)

    def build(self, trial: VaeImageTrial, data: ImageTensors) -> VAE:
        channels, height, width = data.train.shape
        if height != width:
            raise ValueError(f"images must be square, but got {height} x {width} pixels")
        names = {one.name for one in fields(VaeConfig)} & set(VaeImageTrial.model_fields)
        given = {**trial.model_dump(include=names), "latent_dim": trial.latents}
        network = VAE(VaeConfig(channels=channels, px=width, **given))
        if network.linear is not None:
            network.linear.set(*data.ppca(SPACES[trial.likelihood], trial.latents).parts)
        return network

    def rebuild(self, config: dict[str, Any]) -> VAE:
        return VAE(VaeConfig(**config))

    def graphs(self, model: nn.Module) -> dict[str, Graph]:
        from trainables.images.onnx_graph import image_graphs

        assert isinstance(model, VAE)
        return image_graphs(model)

    def draw(self, trial: VaeImageTrial, data: ImageTensors, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Places [B, 4] of images, noise [B, S, L] of the posterior, and chances [B, C, H, W] if pixels are drawn."""
        device, batch = data.device, trial.batch_size
        places = data.train.draw(batch, generator)
        noise = torch.randn(batch, trial.train_samples, trial.latents, generator=generator, device=device)
        if not data.train.needs_chance(SPACES[trial.likelihood]):
            return places, noise
        return places, noise, torch.rand(batch, *data.train.shape, generator=generator, device=device)

    def inputs(self, trial: VaeImageTrial, data: ImageTensors, drawn: tuple[Tensor, ...]) -> tuple[Any, ...]:
        places, noise, *chance = drawn
        x = data.train.pixels(places, SPACES[trial.likelihood], *chance)
        if not trial.distances:
            return x, noise
        return x, noise, Distances(tuple(trial.distances), trial.scales, trial.spectrum, data.vgg)

    def loss(self, trial: VaeImageTrial, terms: VaeTerms, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
        """As `VaeImageTrial` has it. `distortion` is -log p(x|z) in nats per image, a density's for continuous pixels; distances
        are unweighted."""
        penalty, values = kl_loss(trial, terms.kl, kl_weight, ranks)
        distances = {name: ranks.mean(one, trial.batch_size) for name, one in terms.distances.items()}
        weighted = sum(trial.distances[name] * one for name, one in distances.items())
        values = {**distances, **values}
        if terms.log_likelihood is None:
            # Per value of an image, where in nats it is per image: the KL weighs as much more than it says.
            beta = terms.elements * values["effective_beta"]
            return {"loss": weighted + penalty, **values, "effective_beta": beta}
        distortion = ranks.mean(-terms.log_likelihood.mean(dim=1), trial.batch_size)
        if terms.log_ratio is None:
            loss = distortion + terms.elements * weighted + penalty
        else:
            bound = iwae(terms.log_likelihood + values["effective_beta"] * terms.log_ratio)
            loss = ranks.mean(-bound, trial.batch_size)
        return {"loss": loss, "distortion": distortion, **values}

    def capturable(self, data: ImageTensors) -> bool:
        return True

    def evaluate(self, network: VAE, data: ImageTensors) -> dict[str, float]:
        with evaluating(network):
            return evaluate(network, data)

    def pictures(self, network: VAE, data: ImageTensors) -> dict[str, Tensor]:
        with evaluating(network):
            return {
                "reconstructions": reconstruction_image(network, data.validation),
                "samples": sample_image(network),
            }

    def open_test(self, sets: Mapping[str, str]) -> ImageTest:
        return ImageTest.load(sets)

    def judge(self, network: VAE, test: ImageTest) -> Judged:
        """Score, PSNR and SSIM of every image; an image's time is that of its score with as many samples."""
        model, split = of_network(network), test.images
        scale = fitted_scale(model, test.calibration)
        found = errors(scores(model, split, scale, TEST_SAMPLES), split)
        timed = split.first(TIMED_IMAGES)
        with one_thread():
            _, seconds = fastest(lambda: scores(model, timed, scale, TEST_SAMPLES))
        shown = shown_images(network, split, encode(network, split.fixed_pixels(model.space)).mu)
        size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        pictured = {"psnr": psnr(shown.decoded, shown.true), "ssim": ssim(shown.decoded, shown.true)}
        return Judged({**found, **pictured}, size, seconds / len(timed))

    def baselines(self, sets: Mapping[str, str], test: ImageTest, winner: VAE) -> dict[str, Judged]:
        mu = encode(winner, test.images.first(1).fixed_pixels(winner.likelihood.space)).mu
        return predict_baselines(TrainingImages.load(sets["train"]), test, mu.shape[1])

    def alternatives(
        self, sets: Mapping[str, str], test: ImageTest, study: Study, source: Source, winner: VAE, seconds: float
    ) -> dict[str, Judged]:
        """A denoising autoencoder of the winner's network, trained as long as it was."""
        with seeded(0):
            model = self.rebuild(winner.config_dict)
        if model.linear is not None and winner.linear is not None:
            model.linear.load_state_dict(winner.linear.state_dict())
        return {"denoiser": denoiser(model, TrainingImages.load(sets["train"]), test, seconds)}

    def figures(self, network: VAE, test: ImageTest, study: Study) -> Figures:
        from trainables.images.figures import image_figures  # matplotlib

        return image_figures(network, test.images)

    def explorer(self, network: VAE, test: ImageTest, study: Study) -> Explorer:
        return image_explorer(network, test.images)

    def card(self, study: Study, source: str) -> Card:
        assert isinstance(study.data, ImageData)
        return image_card(study.data)
