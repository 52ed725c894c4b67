"""Fresh units while training: real Ray actors, a real lens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplens_workers.asbuilt_preparation import AsBuiltPreparation
from deeplens_workers.pool import RenderActors
from deeplens_workers.preparation import lens_of
from deeplens_workers.tolerances import draw
from tests.deeplens_workers.test_asbuilt_preparation import section
from tests.waiting import wait_until
from trainables.asbuilt.learner import AsBuiltLearner
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.psf.stream import POLL_STEPS
from trainables.training.state import TrainingState
from trainables.training.step import Step

pytestmark = pytest.mark.slow

PREPARATION, LEARNER, SEED = AsBuiltPreparation(), AsBuiltLearner(), 4
UNITS, POSITIONS = 8, 32  # of a chunk
SMALL = {"hidden_dim": 32, "batch_size": 8, "learning_rate": 1e-3, "components": 16, "latent_dim": 4, "targets": 4}


@pytest.fixture(scope="module")
def opened(tmp_path_factory, ray_session):
    data = section(positions=POSITIONS, depths_mm=(-10000, -5000), stream={"kernels": UNITS * POSITIONS, "reuse": 1})
    lens = PREPARATION.find(data)
    data = PREPARATION.resolved(data, lens)
    sets = PREPARATION.prepare(data, lens, SEED, tmp_path_factory.mktemp("cache"), 0).sets
    with PREPARATION.supply(data, lens, SEED, actors=1) as supply:
        yield data, lens_of(lens), LEARNER.open(sets), LEARNER.open({**sets, **supply.sets})


@pytest.mark.parametrize("network", ["basis", "mlp"])
def test_a_training_draws_cached_units_and_fresh_ones(opened, network):
    data, _, cached, streamed = opened
    trial = AsBuiltTrial(**SMALL, network=network)
    state = TrainingState(trial, lambda: LEARNER.build(trial, streamed), 0, streamed.device)
    step = Step(trial, LEARNER, streamed, state)
    before, taken = streamed.points.clone(), streamed.fresh.fresh
    number = 0

    def one() -> bool:
        nonlocal number
        number += 1
        assert torch.isfinite(step(number, 1e-3, 1e-3)["loss"])
        return number >= POLL_STEPS and streamed.fresh.fresh > taken

    wait_until(one)
    own = data.units
    assert before.shape == (own + UNITS, POSITIONS, 3)
    assert torch.equal(streamed.points[:own], cached.points)
    assert not torch.equal(streamed.points[own:], before[own:])
    assert torch.equal(streamed.basis.components, cached.basis.components)
    torch.testing.assert_close(streamed.scores[:own], cached.scores)
    kernels = streamed.kernels_at(torch.arange(own + UNITS), torch.arange(POSITIONS).expand(own + UNITS, -1))
    scores = streamed.basis.scores(kernels.flatten(0, 1)).view(streamed.scores.shape)
    torch.testing.assert_close(streamed.scores, scores)
    assert LEARNER.since_last(streamed)["train/fresh_share"] > 0
    assert LEARNER.since_last(cached) == {}


def test_units_of_the_stream_are_those_that_their_numbers_say(opened):
    data, lens, _, streamed = opened
    points, kernels = streamed.points[data.units :].flatten(0, 1), streamed.fresh.train.kernels
    chunks = (PREPARATION.chunk(data, lens, SEED, index) for index in range(1000))
    chunk = next(one for one in chunks if np.array_equal(one.points, points))
    again, _, _ = (
        RenderActors(lens, count=0).here().render(chunk.points, chunk.pixel_pitch_um, chunk.tracing, chunk.units)
    )
    assert torch.equal(kernels, torch.from_numpy(again.kernels))
    one, two = (PREPARATION.chunk(data, lens, SEED, index).units for index in range(2))
    assert one is not None
    assert two is not None
    drawn = draw(data.tolerances, 2 * UNITS, SEED, "stream", one.values.shape[1])
    np.testing.assert_array_equal(np.concatenate([one.values, two.values]), drawn)
