import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spaces.loading import load
from spaces.system import Source, system
from tests.drawings import images, pixels, written
from tests.trainables.images.conftest import write_cifar, write_mnist
from trainables.images.baselines import independent_pixels
from trainables.images.image_data import ImageData
from trainables.images.learner import ImageLearner
from trainables.images.system import METRICS
from trainables.images.trial import SPACES, VaeImageTrial
from trainables.networks.vae import VaeConfig, VaeTerms
from trainables.training.likelihoods import LIKELIHOODS, LikelihoodOptions
from trainables.training.loop import train
from trainables.training.losses import Ranks, kl_loss
from trainables.training.task import TrainingTask

LEARNER = ImageLearner()
SMALL = {"network": "mlp", "latent_dim": 4, "hidden_dim": 16, "batch_size": 16, "learning_rate": 3e-3}


@pytest.fixture
def opened(tmp_path, prepare):
    def make(binarise: str = "dynamic"):
        write_mnist(tmp_path)
        sets = prepare(ImageData(images="mnist", root=str(tmp_path), binarise=binarise))
        return sets, LEARNER.open(sets)

    return make


def losses(trial, network, data, generator) -> dict[str, torch.Tensor]:
    drawn = LEARNER.draw(trial, data, generator)
    return LEARNER.loss(trial, network(*LEARNER.inputs(trial, data, drawn)), trial.kl_weight, Ranks())


def test_the_learner_is_the_systems():
    assert isinstance(system("vae_image").make_learner(), ImageLearner)


def test_both_tables_of_spaces_say_the_same():
    options = LikelihoodOptions(0.01, 1e-3)
    assert {name: make(options).space for name, make in LIKELIHOODS.items()} == SPACES


def test_a_trial_says_all_of_the_network_that_the_data_does_not():
    assert {one.name for one in dataclasses.fields(VaeConfig)} - set(VaeImageTrial.model_fields) == {"channels", "px"}


def test_a_training_reports_just_what_the_system_declares(opened, tmp_path):
    reported = set()
    for binarise, likelihood, metric in (("dynamic", "bernoulli", "val/nll"), ("none", "logistic", "val/bpd")):
        _, data = opened(binarise)
        trial = VaeImageTrial(**SMALL, likelihood=likelihood, ema_width=0.05)
        task = TrainingTask("vae_image", trial, 0, 20, (10, 20), str(tmp_path / binarise), metric, "min")
        reports = list(train(task, LEARNER, data))
        assert [one.step for one in reports] == [10, 20]
        reported |= set(reports[-1].metrics)
    trial = VaeImageTrial(**SMALL, likelihood="none", l1_weight=1.0, ssim_weight=1.0, spectral_weight=1.0)
    task = TrainingTask("vae_image", trial, 0, 20, (20,), str(tmp_path / "distances"), "val/bpd", "min")
    ((report,),) = (list(train(task, LEARNER, data)),)
    assert "val/bpd_own" not in report.metrics
    assert "train/distortion" not in report.metrics
    reported |= set(report.metrics)
    assert reported | {"train/perceptual"} == {name for name in METRICS if not name.startswith("test/")}


@pytest.mark.parametrize("likelihood", list(SPACES))
def test_every_likelihood_trains_and_is_judged(opened, likelihood):
    """A few steps lower the loss, and the validation metrics are finite."""
    sets, data = opened("dynamic" if SPACES[likelihood] == "binary" else "none")
    weights = {"l1_weight": 1.0} if likelihood == "none" else {}
    trial = VaeImageTrial(**SMALL, likelihood=likelihood, **weights)
    torch.manual_seed(0)
    network = LEARNER.build(trial, data)
    optimizer = torch.optim.Adam(network.parameters(), lr=trial.learning_rate)
    generator, course = torch.Generator().manual_seed(0), []
    for _ in range(40):
        values = losses(trial, network, data, generator)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        course.append(values["loss"].item())
    assert sum(course[-5:]) < sum(course[:5])
    assert all(math.isfinite(value) for value in LEARNER.evaluate(network, data).values())
    judged = LEARNER.judge(network, LEARNER.open_test(sets))
    scored = {"bernoulli": {"nll"}, "none": {"bpd"}}.get(likelihood, {"bpd", "bpd_own"})
    assert set(judged.errors) == {*scored, "psnr", "ssim"}
    assert all(values.shape == (20,) and values.isfinite().all() for values in judged.errors.values())
    assert judged.seconds > 0


def test_a_network_is_built_again_from_its_config(opened):
    _, data = opened()
    network = LEARNER.build(VaeImageTrial(**SMALL), data)
    again = LEARNER.rebuild(json.loads(json.dumps(network.config_dict)))
    again.load_state_dict(network.state_dict())
    assert LEARNER.evaluate(again, data) == LEARNER.evaluate(network, data)


def test_what_a_batch_draws_is_split_among_ranks_by_its_first_dimension(opened):
    _, data = opened()
    drawn = LEARNER.draw(VaeImageTrial(**SMALL, train_samples=3), data, torch.Generator().manual_seed(0))
    assert [len(one) for one in drawn] == [16, 16, 16]
    assert drawn[1].shape == (16, 3, 4)
    _, static = opened("static")
    assert len(LEARNER.draw(VaeImageTrial(**SMALL), static, torch.Generator())) == 2


def test_dynamic_images_differ_from_batch_to_batch_and_static_ones_do_not(opened):
    for mode, differ in (("dynamic", True), ("static", False)):
        _, data = opened(mode)
        trial, generator = VaeImageTrial(**SMALL), torch.Generator().manual_seed(0)
        same = LEARNER.draw(trial, data, generator)[0]
        first, second = (
            LEARNER.inputs(trial, data, (same, *LEARNER.draw(trial, data, generator)[1:]))[0] for _ in range(2)
        )
        assert bool((first != second).any()) is differ
        assert set(first.unique().tolist()) == {0.0, 1.0}


def test_the_loss_is_the_negative_elbo_with_its_weight():
    terms = VaeTerms(torch.tensor([[-10.0], [-20.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), None, {}, 64)
    trial = VaeImageTrial(batch_size=2)
    values = LEARNER.loss(trial, terms, 0.5, Ranks())
    assert float(values["distortion"]) == 15
    assert float(values["kl"]) == 5
    assert float(values["loss"]) == 15 + 0.5 * 5
    assert float(values["effective_beta"]) == 0.5


def distant(log_likelihood: torch.Tensor | None) -> VaeTerms:
    """Two images of 64 values, with distances and a KL of 5 nats in two dimensions."""
    distances = {"l1": torch.tensor([0.1, 0.3]), "spectral": torch.tensor([0.2, 0.2])}
    return VaeTerms(log_likelihood, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), None, distances, 64)


def test_distances_count_per_value_beside_a_likelihood():
    trial = VaeImageTrial(batch_size=2, l1_weight=2.0, spectral_weight=0.5)
    values = LEARNER.loss(trial, distant(torch.tensor([[-10.0], [-20.0]])), 0.5, Ranks())
    assert float(values["loss"]) == pytest.approx(15 + 64 * (2 * 0.2 + 0.5 * 0.2) + 0.5 * 5)
    assert {name: float(values[name]) for name in ("l1", "spectral")} == pytest.approx({"l1": 0.2, "spectral": 0.2})
    assert float(values["effective_beta"]) == 0.5


def test_without_a_likelihood_the_loss_is_a_mean_over_values_and_beta_the_weight_of_sums():
    """Document 002: the mean of distances and 0.5 of the mean of the KL; halving the latents doubles beta."""
    trial = VaeImageTrial(batch_size=2, likelihood="none", l1_weight=1.0, spectral_weight=0.1, kl_reduction="mean")
    values = LEARNER.loss(trial, distant(None), 0.5, Ranks())
    assert float(values["loss"]) == pytest.approx(0.2 + 0.1 * 0.2 + 0.5 * 5 / 2)
    assert float(values["effective_beta"]) == pytest.approx(0.5 * 64 / 2)
    # 256 px and 8 channels of 8 x 8: 64, as after the document's round 1 with a weight of 1 and 16 channels.
    wide = distant(None)._replace(elements=256**2, kl=torch.zeros(2, 512))
    assert float(LEARNER.loss(trial, wide, 0.5, Ranks())["effective_beta"]) == pytest.approx(64)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_loss_of_several_samples_is_the_weighted_bound(beta):
    torch.manual_seed(0)
    log_likelihood, log_ratio = torch.randn(3, 5), torch.randn(3, 5)
    trial = VaeImageTrial(batch_size=3, train_samples=5)
    values = LEARNER.loss(trial, VaeTerms(log_likelihood, torch.rand(3, 2), log_ratio, {}, 64), beta, Ranks())
    expected = -(log_likelihood + beta * log_ratio).exp().mean(dim=1).log().mean()
    torch.testing.assert_close(values["loss"], expected)


def test_one_sample_in_the_weighted_bound_is_a_draw_of_the_elbo():
    """E[log_ratio] = -KL, so the mean over many draws of the bound of one sample is the loss with the KL in closed form."""
    torch.manual_seed(0)
    trial = VaeImageTrial(**{**SMALL, "batch_size": 20_000})
    config = VaeConfig("mlp", 1, 4, 2, 8, 8, "bernoulli")
    network = LEARNER.rebuild(dataclasses.asdict(config))
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    x, noise = torch.ones(1, 1, 4, 4).expand(20_000, -1, -1, -1), torch.randn(20_000, 1, 2)
    with torch.no_grad():
        terms, log_weights = network(x, noise), network.log_weights(x, noise)
    elbo = LEARNER.loss(trial, terms, 1.0, Ranks())["loss"]
    assert float(elbo) == pytest.approx(-float(log_weights.mean()), abs=0.05)
    assert float(kl_loss(trial, terms.kl, 1.0, Ranks())[0]) > 0.05


def test_the_card_and_the_pictures_are_there(opened):
    sets, data = opened()
    network = LEARNER.build(VaeImageTrial(**SMALL), data)
    assert set(LEARNER.pictures(network, data)) == {"reconstructions", "samples"}
    figures = LEARNER.figures(network, LEARNER.open_test(sets), load("vae_mnist"))
    assert {"reconstructions", "posteriors", "samples", "interpolations", "traversals", "latents"} <= set(figures)
    card = LEARNER.card(load("vae_mnist"), "mnist_5k")
    scope: dict[str, Any] = {"model": network, "torch": torch}
    exec("\n".join(card.usage), scope)
    assert scope["again"].shape == (16, 1, 8, 8)


def test_colours_go_all_the_way(tmp_path, prepare):
    write_cifar(tmp_path)
    sets = prepare(ImageData(images="cifar10", root=str(tmp_path), binarise="none", flip=True, shift=4))
    data, trial = (
        LEARNER.open(sets),
        VaeImageTrial(**{**SMALL, "network": "conv", "base_width": 4}, likelihood="logistic"),
    )
    network = LEARNER.build(trial, data)
    assert losses(trial, network, data, torch.Generator())["loss"].isfinite()
    assert math.isfinite(LEARNER.evaluate(network, data)["val/bpd"])
    assert LEARNER.pictures(network, data)["reconstructions"].shape[0] == 3
    test = LEARNER.open_test(sets)
    assert independent_pixels(data.train.whole, test.images).errors["bpd"].isfinite().all()
    colours = ["level_red", "level_green", "level_blue"]
    for name, draw in LEARNER.figures(network, test, load("vae_cifar10")).items():
        figure, table = written(draw, tmp_path / name)
        if name != "latents":
            assert np.array_equal(np.stack(images(figure)), np.moveaxis(pixels(table, *colours), 1, -1))


def test_the_baselines_are_those_that_the_system_declares(opened):
    declared = [one.name for one in system("vae_image").baselines]
    for binarise, likelihood, left_out in (("dynamic", "bernoulli", {"png", "webp"}), ("none", "logistic", set[str]())):
        sets, data = opened(binarise)
        network, test = LEARNER.build(VaeImageTrial(**SMALL, likelihood=likelihood), data), LEARNER.open_test(sets)
        study = load("vae_mnist")
        source = Source("mnist", Path(), "")
        found = LEARNER.baselines(sets, test, network) | LEARNER.alternatives(sets, test, study, source, network, 0.1)
        assert [one for one in declared if one in found] == [one for one in declared if one not in left_out]
        for one in found.values():
            assert all(values.shape == (20,) and values.isfinite().all() for values in one.errors.values())


@pytest.mark.parametrize("space", ["vae_mnist", "vae_cifar10"])
def test_the_shipped_spaces_fit_their_data(space):
    study = load(space)
    assert isinstance(study.data, ImageData)
    for values in study.first_trials():
        study.data.check(study.trial(values))
    assert study.objective.metric in study.system.objectives
