"""The state of training: the moving average's closed form, and everything coming back from a checkpoint."""

import numpy as np
import pytest
import torch

from trainables.learner import Network
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.trial import CvaePsfTrial
from trainables.training.state import AVERAGE_EVERY, TrainingState, moving_average

CONFIG = CvaeConfig(1, 5, {"depth_mm": (0.1, 2.0)}, latent_dim=3, hidden_dim=8, num_layers=1, fourier_bands=1)


def state(ema_width: float = 0.1, seed: int = 3) -> TrainingState:
    return TrainingState(CvaePsfTrial(ema_width=ema_width), lambda: CVAE(CONFIG), seed, torch.device("cpu"))


def cvae(network: Network) -> CVAE:
    assert isinstance(network, CVAE)
    return network


def step(training: TrainingState, number: int = AVERAGE_EVERY) -> None:
    training.optimizer.zero_grad()
    cvae(training.model).predict(torch.rand((4, 3), generator=training.generator) - 1).square().sum().backward()
    training.update(1e-2)
    training.average(number)


@pytest.mark.parametrize("width", [0.05, 0.2])
def test_the_average_is_weighted_by_a_power_of_the_step_with_the_asked_width(width):
    """After N steps step t weighs t^gamma; the standard deviation of t / N under it is the asked width."""
    model, steps = CVAE(CONFIG), 2000
    average = moving_average(model, width)
    parameter, averaged = (next(module.parameters()) for module in (model, average.module))
    moments = []
    for power in (1, 2):
        average.n_averaged.zero_()
        for t in range(1, steps + 1):
            parameter.detach().fill_((t / steps) ** power)
            average.update_parameters(model)
        moments.append(float(averaged.flatten()[0]))
    assert np.sqrt(moments[1] - moments[0] ** 2) == pytest.approx(width, rel=0.02)


def test_without_an_average_the_model_itself_is_evaluated():
    training = state(ema_width=0.0)
    assert training.evaluated is training.model


def test_the_average_trails_the_model_and_needs_no_gradient():
    training = state()
    for _ in range(5):
        step(training)
    assert not torch.equal(cvae(training.evaluated).decoder.head.weight, cvae(training.model).decoder.head.weight)
    assert not any(parameter.requires_grad for parameter in training.evaluated.parameters())


@pytest.mark.parametrize("ema_width", [0.0, 0.1])
def test_a_restored_state_goes_on_as_the_first_would_have(ema_width):
    training, other = state(ema_width), state(ema_width, seed=4)
    for _ in range(3):
        step(training)
    other.restore({name: value.clone() for name, value in training.tensors().items()})
    for each in (training, other):
        for _ in range(3):
            step(each)
    expected, restored = training.tensors(), other.tensors()
    assert expected.keys() == restored.keys()
    assert all(torch.equal(restored[name], value) for name, value in expected.items())
