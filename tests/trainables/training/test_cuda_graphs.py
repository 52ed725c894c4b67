"""Steps by a graph are the steps without. Here a graph is the step itself, called again; tests/trainables/test_gpu.py has CUDA's."""

import logging
import math
from typing import Any

import pytest
import torch

from tests.trainables.packs import steps_of
from tests.trainables.psf.synthetic import tensors
from tests.trainables.training.small import LEARNER, TRIAL
from trainables.psf.data import PsfTensors
from trainables.training.batched import Batched
from trainables.training.cuda_graphs import WARM_UP, StepGraph
from trainables.training.state import TrainingState
from trainables.training.step import Step

CHANGES: list[dict[str, Any]] = [
    {},
    {"optimizer": "adam", "accumulation": 2},
    {"optimizer": "sgd", "recon_scale": 1e4, "grad_clip": 0.01},
    {"target_rate": 0.5, "ema_width": 0.0},
    {"decoder_variance": "optimal", "kl_reduction": "mean"},
    {"network": "conv", "base_width": 4},
    {"network": "basis", "components": 8, "precision": "bfloat16"},
]
# Floats of 32 bits, to which a graph's rates are rounded; some a step at which all weights stand still.
RATES = [(2.0**-n, 2.0 ** (-3 - n)) for n in (9, 8, 0, 8, 10)] * 3 + [(0.0, 1.0), (2.0**-9, 0.0)]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Other tests of the process may have asked for more than warnings."""
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def repeated(step, states, stream):
    """A graph that makes the step anew."""
    values: dict[str, torch.Tensor] = {}
    return values, lambda: values.update(step())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PsfTensors:
    return tensors(tmp_path_factory.mktemp("data"), kernel_px=16)


@pytest.fixture(autouse=True)
def not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepGraph, "broken", False)


def steps(
    data: PsfTensors, changes: dict[str, Any], capture=None
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """What each step of `RATES` consists of, and the state that they lead to."""
    trial = TRIAL.model_copy(update=changes)
    state = TrainingState(trial, lambda: LEARNER.build(trial, data), 3, data.device)
    take_step = Step(trial, LEARNER, data, state, graph=StepGraph([state], capture) if capture else None)
    made = []
    for number, rates in enumerate(RATES, 1):
        made.append({name: float(value) for name, value in take_step(number, *rates).items()})
    return made, state.tensors()


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_steps_by_a_graph_are_those_without_bit_for_bit(data, changes, caplog):
    caplog.set_level(logging.INFO)
    expected, state = steps(data, changes)
    found, state_of_graph = steps(data, changes, repeated)
    assert found == expected
    assert alike(state_of_graph, state)
    assert "steps are made by a CUDA graph" in caplog.messages


def refused(step, states, stream):
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def drawing_the_same(step, states, stream):
    """A graph whose every step has the random numbers of its first."""
    (state,) = states
    first, values = state.generator.get_state(), {}

    def replay() -> None:
        state.generator.set_state(first)
        values.update(step())

    return values, replay


def of_its_first_rates(step, states, stream):
    """A graph that has its rates as they were."""
    (state,) = states
    values: dict[str, torch.Tensor] = {}
    rates: dict[str, torch.Tensor] = {}

    def replay() -> None:
        update = state.update
        state.update = lambda rate: update(rates.setdefault("learning", rate.clone()))
        try:
            values.update(step())
        finally:
            del state.update

    return values, replay


def without_updates(step, states, stream):
    """A graph that computes all and leaves the weights of the last training where they are."""
    (*_, state) = states
    values = {}

    def replay() -> None:
        state.update = lambda rate: None
        try:
            values.update(step())
        finally:
            del state.update

    return values, replay


def failing_when_replayed(step, states, stream):
    """At the second step, whose rates are other ones."""
    values: dict[str, torch.Tensor] = {}

    def replay() -> None:
        again = bool(values)
        values.update(step())
        if again:
            raise RuntimeError("out of memory")

    return values, replay


@pytest.mark.parametrize(
    ("capture", "reason", "broken"),
    [
        (refused, "RuntimeError: operation not permitted when stream is capturing", True),
        (failing_when_replayed, "RuntimeError: out of memory", True),
        (drawing_the_same, "by it train/", False),
        (of_its_first_rates, "by it the weights", False),
        (without_updates, "by it ", False),
    ],
)
def test_a_graph_that_cannot_be_or_is_wrong_leaves_the_steps_as_they_are(data, capture, reason, broken, caplog):
    expected, state = steps(data, {})
    found, state_of_graph = steps(data, {}, capture)
    assert found == expected
    assert alike(state_of_graph, state)
    (line,) = warnings_of(caplog)
    assert line.startswith("steps are made without a CUDA graph: ")
    assert reason in line
    assert "more of it" not in line
    assert StepGraph.broken == broken


@pytest.mark.parametrize("capture", [repeated, without_updates])
def test_a_batch_of_trainings_has_a_graph_if_it_is_right_for_each(data, capture, caplog):
    caplog.set_level(logging.DEBUG)
    trials = [TRIAL.model_copy(update={"target_rate": target}) for target in (0.5, 1.0, 2.0)]
    without, by_graph = (steps_of(LEARNER, data, trials) for _ in range(2))
    graph = StepGraph([step.state for step in by_graph], capture)
    for members, batch in ((without, Batched(without)), (by_graph, Batched(by_graph, graph))):
        for number, (rate, kl_weight) in enumerate(RATES, 1):
            found = batch([number] * len(members), [(rate / 2**n, kl_weight) for n in range(len(members))])
        assert all(math.isfinite(float(one["grad_norm"])) for one in found)
    for one, other in zip(by_graph, without, strict=True):
        assert alike(one.state.tensors(), other.state.tensors())
    assert ("steps are made by a CUDA graph" in caplog.messages) == (capture is repeated)


def test_steps_that_there_is_no_memory_to_prove_go_on_without_a_graph(data, caplog, monkeypatch):
    expected, state = steps(data, {})
    calls, make = [], Step._make

    def short_of_memory(self, *rates):
        values = make(self, *rates)
        calls.append(rates)
        if len(calls) == WARM_UP + 2:  # the second of those that the graph's would be held against
            raise RuntimeError("out of memory")
        return values

    monkeypatch.setattr(Step, "_make", short_of_memory)
    found, state_of_graph = steps(data, {}, lambda *_: pytest.fail("captured"))
    assert found == expected
    assert alike(state_of_graph, state)
    assert warnings_of(caplog) == ["steps are made without a CUDA graph: RuntimeError: out of memory"]
    assert not StepGraph.broken


def test_after_a_capture_that_failed_a_process_tries_none(data):
    """Nor has a training one that began before."""
    failed, other = steps_of(LEARNER, data, [TRIAL, TRIAL])
    failed.graph = StepGraph([failed.state], refused)
    other.graph = StepGraph([other.state], lambda *_: pytest.fail("captured"))
    for number, rates in enumerate(RATES, 1):
        failed(number, *rates)
        other(number, *rates)
    assert StepGraph.broken
