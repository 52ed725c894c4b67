"""A CUDA graph can hold a step: with every hyperparameter's every value nothing in it asks the device for a value, or makes a tensor of
one of Python's."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spaces.system import system
from tests.trainables.asbuilt import test_knobs as asbuilt
from tests.trainables.asbuilt.synthetic import sets
from tests.trainables.images import test_knobs as images
from tests.trainables.knobs import cases
from tests.trainables.packs import batched, steps_of
from tests.trainables.psf.synthetic import tensors
from tests.trainables.training import test_knobs as psf
from tests.trainables.training.small import TRIAL
from trainables.asbuilt.data import AsBuiltTensors
from trainables.training.batched import Batched
from trainables.training.state import TrainingState
from trainables.training.step import Step

aten = torch.ops.aten
ASKING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.lift_fresh}
FIXED: dict[str, dict[str, Any]] = {
    "cvae_psf": TRIAL.model_dump(exclude_unset=True),
    "vae_image": images.TRIAL,
    "cvae_asbuilt": asbuilt.TRIAL,
}
KNOBS = {"cvae_psf": psf.KNOBS, "vae_image": images.KNOBS, "cvae_asbuilt": asbuilt.KNOBS}
CHANGES = [
    pytest.param(name, {**others, knob: value}, id=f"{name}-{knob}-{value}")
    for name, knobs in KNOBS.items()
    for knob, value in cases(knobs)
    for others in [knobs[knob][0]]
    if knob != "defocus"  # of distances that vary
]


class Asked(TorchDispatchMode):
    """Notes what a step asks of its device. Used as a step's graph, it looks at all steps but the first, which makes what is kept.

    Args:
        here: on the CPU whatever the device is: to ask it costs nothing.
    """

    def __init__(self, here: list[torch.Tensor]) -> None:
        super().__init__()
        self._here = {tensor.untyped_storage().data_ptr() for tensor in here}
        self.found: set[str] = set()
        self._calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func.overloadpacket in {aten.index, aten.index_put, aten.index_put_} and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        asking = func.overloadpacket in ASKING and args[0].untyped_storage().data_ptr() not in self._here
        if asking or by_mask:
            self.found.add(str(func))
        return func(*args, **(kwargs or {}))

    def __call__(self, function, *rates):
        self._calls += 1
        given = [torch.full((), rate) for rate in rates]
        if self._calls == 1:
            return function(*given)
        with self:
            return function(*given)


def asked_of(data):
    partner = data.basis.partner if isinstance(data, AsBuiltTensors) else None
    return Asked([] if partner is None else [partner])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return {
        "cvae_psf": tensors(tmp_path_factory.mktemp("kernels"), kernel_px=16),
        "vae_image": images.images(),
        "cvae_asbuilt": AsBuiltTensors.load(sets(tmp_path_factory.mktemp("units") / "square")),
    }


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_a_step_asks_nothing_of_its_device(data, name, changes):
    learner = system(name).make_learner()
    trial = system(name).trial.model_validate({**FIXED[name], **changes})
    state = TrainingState(trial, lambda: learner.build(trial, data[name]), 0, torch.device("cpu"))
    asked = asked_of(data[name])
    take_step = Step(trial, learner, data[name], state, graph=asked)
    for step in (1, 2):
        values = take_step(step, 1e-3, 0.5)
    assert learner.capturable(data[name])
    assert asked.found == set()
    assert values["loss"].isfinite()


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_nor_do_the_steps_of_a_batch(data, name, changes):
    learner = system(name).make_learner()
    trial = system(name).trial.model_validate({**FIXED[name], **changes})
    other = trial.model_copy(update={"learning_rate": trial.learning_rate / 2})
    assert batched(learner, data[name], [trial, other])
    assert_asks_nothing(learner, data[name], [trial, other])


def test_nor_do_those_of_unequal_sizes(data):
    changes = {"hidden_dim": 24, "latent_dim": 3, "fourier_bands": 5, "num_layers": 3, "batch_size": 8}
    trials = [TRIAL, TRIAL.model_copy(update=changes)]
    assert_asks_nothing(system("cvae_psf").make_learner(), data["cvae_psf"], trials)


def assert_asks_nothing(learner, data, trials):
    asked = asked_of(data)
    batch = Batched(steps_of(learner, data, trials, asked), asked)
    for step in (1, 2):
        values, _ = batch([step] * 2, [(1e-3, 0.5)] * 2)
    assert asked.found == set()
    assert values["loss"].isfinite()
