import dataclasses
import json
import math
from typing import Any

import pytest
import torch

from spaces.loading import load
from spaces.system import system
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
    _, data = opened()
    trial = VaeImageTrial(**SMALL, ema_width=0.05)
    task = TrainingTask("vae_image", trial, 0, 20, (10, 20), str(tmp_path / "trial"), "val/nll", "min")
    reports = list(train(task, LEARNER, data))
    assert [one.step for one in reports] == [10, 20]
    assert set(reports[-1].metrics) == {name for name in METRICS if not name.startswith("test/")}


@pytest.mark.parametrize("likelihood", list(SPACES))
def test_every_likelihood_trains_and_is_judged(opened, likelihood):
    """A few steps lower the loss, and the validation metrics are finite."""
    sets, data = opened("dynamic" if SPACES[likelihood] == "binary" else "none")
    trial = VaeImageTrial(**SMALL, likelihood=likelihood)
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
    assert judged.errors["nll"].shape == (20,)
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
        same = torch.arange(16)
        first, second = (
            LEARNER.inputs(trial, data, (same, *LEARNER.draw(trial, data, generator)[1:]))[0] for _ in range(2)
        )
        assert bool((first != second).any()) is differ
        assert set(first.unique().tolist()) == {0.0, 1.0}


def test_the_loss_is_the_negative_elbo_with_its_weight():
    terms = VaeTerms(torch.tensor([[-10.0], [-20.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), None)
    trial = VaeImageTrial(batch_size=2)
    values = LEARNER.loss(trial, terms, 0.5, Ranks())
    assert float(values["distortion"]) == 15
    assert float(values["kl"]) == 5
    assert float(values["loss"]) == 15 + 0.5 * 5
    assert float(values["effective_beta"]) == 0.5


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_loss_of_several_samples_is_the_weighted_bound(beta):
    torch.manual_seed(0)
    log_likelihood, log_ratio = torch.randn(3, 5), torch.randn(3, 5)
    trial = VaeImageTrial(batch_size=3, train_samples=5)
    values = LEARNER.loss(trial, VaeTerms(log_likelihood, torch.rand(3, 2), log_ratio), beta, Ranks())
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


def test_the_card_and_the_pictures_are_there(opened, tmp_path):
    sets, data = opened()
    network = LEARNER.build(VaeImageTrial(**SMALL), data)
    assert set(LEARNER.pictures(network, data)) == {"reconstructions", "samples"}
    (tmp_path / "figures").mkdir()
    LEARNER.figures(network, LEARNER.open_test(sets), tmp_path / "figures")
    assert len(list((tmp_path / "figures").glob("*.png"))) == 5
    card = LEARNER.card(load("vae_mnist"), "mnist_5k")
    scope: dict[str, Any] = {"model": network, "torch": torch}
    exec("\n".join(card.usage), scope)
    assert scope["again"].shape == (16, 1, 8, 8)


def test_colours_go_all_the_way(tmp_path, prepare):
    write_cifar(tmp_path)
    sets = prepare(ImageData(images="cifar10", root=str(tmp_path), binarise="none"))
    data, trial = (
        LEARNER.open(sets),
        VaeImageTrial(**{**SMALL, "network": "conv", "base_width": 4}, likelihood="logistic"),
    )
    network = LEARNER.build(trial, data)
    assert losses(trial, network, data, torch.Generator())["loss"].isfinite()
    assert math.isfinite(LEARNER.evaluate(network, data)["val/nll"])
    assert LEARNER.pictures(network, data)["reconstructions"].shape[0] == 3
    test = LEARNER.open_test(sets)
    assert independent_pixels(data.train, test).errors["nll"].isfinite().all()
    LEARNER.figures(network, test, tmp_path)


def test_the_baselines_are_those_that_the_system_declares(opened):
    sets, data = opened()
    network = LEARNER.build(VaeImageTrial(**SMALL), data)
    found = LEARNER.baselines(sets, LEARNER.open_test(sets), network)
    assert list(found) == [one.name for one in system("vae_image").baselines]


def test_the_shipped_space_is_one_that_fits_its_data():
    study = load("vae_mnist")
    assert isinstance(study.data, ImageData)
    for values in study.first_trials():
        study.data.check(study.trial(values))
    assert study.objective.metric in study.system.objectives
