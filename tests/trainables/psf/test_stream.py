"""Fresh kernels while training: real Ray actors, a real lens, real deaths."""

import os
import signal

import numpy as np
import pytest
import torch
from ray.util import list_named_actors

from deeplens_workers.dataset import chunk_points, training
from deeplens_workers.lens_file import find_lens
from deeplens_workers.pool import RenderActors
from deeplens_workers.preparation import PsfPreparation
from deeplens_workers.psf_data import PsfData
from deeplens_workers.stream import CHUNK
from spaces.system import system
from tests.trainables.psf.meridional import PREPARATION, meridional
from tests.trainables.psf.synthetic import blobs, grid, write_set
from tests.waiting import wait_until
from trainables.psf.learner import CvaePsfLearner
from trainables.psf.stream import POLL_STEPS, StreamReader
from trainables.psf.trial import CvaePsfTrial

SEED = 5
CONDITIONS = ("x", "y", "depth_mm", "focus_mm")


def streamed(**changes) -> PsfData:
    fields = {
        "lens": "cooke_triplet_50mm",
        "pixel_pitch_um": 3.2,
        "trace_px": 64,
        "wavelengths_um": (0.656, 0.587, 0.486),
        "grid": (3, 3),
        "depths_mm": (-10000, -1000),
        "focus_mm": (-10000, -2000),
        "kernel_px": 8,
        "rays": 64,
        "held_out_rays": 512,
        "stream": {"kernels": 2 * CHUNK, "reuse": 2},
    }
    return PsfData(**(fields | changes))


def kill(actor) -> None:
    import ray

    os.kill(ray.get(actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)


def until_fresh(reader: StreamReader, drawn: int) -> None:
    """One step that draws so many kernels, then steps that draw none until a chunk has come."""
    before = reader.fresh
    for _ in range(POLL_STEPS - reader._steps % POLL_STEPS):
        reader.refresh(drawn)
        drawn = 0

    def step() -> bool:
        reader.refresh(0)
        return reader.fresh > before

    wait_until(step)


@pytest.fixture
def running(ray_session):
    import ray

    data = streamed()
    with PsfPreparation().supply(data, find_lens(data.lens), SEED, actors=1) as supply:
        yield supply.sets["stream"], ray.get_actor(supply.sets["stream"])


def test_readers_are_given_the_sequences_kernels_and_fresh_ones_for_those_they_have_used_up(running):
    import ray

    _, running = running
    data = streamed()
    here = RenderActors(find_lens(data.lens), count=0).here()
    expected = {}
    for index in range(3):
        points = chunk_points(data, SEED, index)
        expected[points.tobytes()] = here.render(points, *training(data))[0].kernels.tobytes()

    chunks = ray.get(running.since.remote(0, "test", 0))
    assert [chunk.number for chunk in chunks] == [1, 2]
    assert all(chunk.kernels.tobytes() == expected[chunk.points.tobytes()] for chunk in chunks)
    state = ray.get(running.state.remote())
    assert (state.begun, state.arrived, state.failure) == (2, 2, None)  # nothing more until they are used up

    reader = StreamReader(running, CONDITIONS)
    kernels, before = reader.train.kernels.clone(), reader.train.points.clone()
    place = reader.train.kernels.data_ptr()
    assert kernels.shape == (2 * CHUNK, 3, 8, 8)
    until_fresh(reader, drawn=2 * CHUNK)  # as many as one chunk is worth
    assert ray.get(running.state.remote()).begun == 3
    assert reader.fresh == CHUNK
    assert reader.fresh_share() == 0.5
    assert reader.fresh_share() is None  # nothing drawn since
    assert reader.train.kernels.data_ptr() == place
    changed = reader.train.points.ne(before).any(dim=1)
    assert int(changed.sum()) == CHUNK
    assert torch.equal(changed, reader.train.kernels.ne(kernels).flatten(1).any(dim=1))
    fresh = np.ascontiguousarray(reader.train.kernels[changed].numpy())
    assert fresh.tobytes() == expected[chunk_points(data, SEED, 2).tobytes()]


@pytest.mark.slow
def test_a_chunk_lost_with_its_renderer_and_a_lost_buffer_are_made_again(running):
    import ray

    _, running = running
    reader = StreamReader(running, CONDITIONS)
    before = ray.get(running.state.remote())
    # Many chunks are wanted at once, so that the renderer dies with two of them.
    reader._drawn = 10 * 2 * CHUNK
    reader._steps = POLL_STEPS - 1
    reader.refresh(0)
    wait_until(lambda: ray.get(running.state.remote()).begun >= before.begun + 2)
    kill(ray.get_actor(next(str(name) for name in list_named_actors() if str(name).startswith("stream-renderer"))))
    wait_until(lambda: ray.get(running.state.remote()).arrived == 12)
    assert ray.get(running.state.remote()).begun == 12

    until_fresh(reader, drawn=0)
    kill(running)
    until_fresh(reader, drawn=2 * CHUNK)
    assert reader._newest > 12  # it goes on where it was
    ray.get(running.wait_full.remote(), timeout=60)


def test_a_learner_draws_from_the_stream_that_it_is_given_the_name_of(running, tmp_path):
    """The grid's pairs stay, for the smoothness term; its kernels are not drawn."""
    flat = grid(3, depths=(-10000.0, -1000.0))
    points = np.concatenate([np.column_stack([flat, np.full(18, focus)]) for focus in (-1e4, -2e3)]).astype(np.float32)
    kernels = blobs(points, kernel_px=8, channels=3)
    sets = {name: str(write_set(tmp_path / name, points, kernels)) for name in ("train", "validation")}
    learner, trial = CvaePsfLearner(), CvaePsfTrial(batch_size=5, smooth_pairs=4, latent_dim=2)
    data, on_grid = learner.open({**sets, "stream": running[0]}), learner.open(sets)
    assert data.train.kernels.shape == (2 * CHUNK, 3, 8, 8)
    assert torch.equal(data.pairs, on_grid.pairs)
    assert data.conditions == CONDITIONS
    drawn = learner.draw(trial, data, torch.Generator().manual_seed(0))
    batch, at, noise, pairs, term = learner.inputs(trial, data, drawn)
    assert torch.equal(batch, data.train.kernels[drawn[0]])
    assert (at.shape, noise.shape, pairs.shape, term) == ((5, 4), (5, 2), (2, 4, 4), trial.smooth_term)
    assert learner.since_last(data) == {"train/fresh_share": 0.0}  # of five kernels, none was fresh
    assert learner.since_last(data) == learner.since_last(on_grid) == {}


@pytest.mark.slow
def test_a_stream_of_the_meridional_frame_is_drawn_as_scores_and_judged_on_the_sensor(tmp_path, ray_session):
    """Beside it the grid is of the sensor, for interpolation. The components are of kernels that stay: another process, or a
    trial that goes on when others have come, finds the same ones."""
    data, lens = meridional(train_points=0, stream={"kernels": CHUNK, "reuse": 2})
    sets = dict(PREPARATION.prepare(data, lens, SEED, tmp_path, actors=0).sets)
    learner, trial = CvaePsfLearner(), CvaePsfTrial(network="basis", components=8, batch_size=64, latent_dim=2)
    with PREPARATION.supply(data, lens, SEED, actors=1) as supply:
        opened = learner.open({**sets, **supply.sets})
        assert opened.train.kernels.shape == (CHUNK, 2, 32, 32)
        kernels, before = opened.train.kernels.clone(), opened.basis.scores.clone()
        values, points, *_ = learner.inputs(
            trial, opened, learner.draw(trial, opened, torch.Generator().manual_seed(0))
        )
        assert values.shape == (64, 8)
        assert (points[:, 1] == 0).all()
        assert isinstance(opened.fresh, StreamReader)
        until_fresh(opened.fresh, drawn=2 * CHUNK)
        assert not torch.equal(opened.basis.scores, before)
        torch.testing.assert_close(opened.basis.scores, opened.basis.components.scores(opened.train.kernels))
        again = learner.open({**sets, **supply.sets})
        assert not torch.equal(again.train.kernels, kernels)
        assert torch.equal(again.basis.components.components, opened.basis.components.components)
        model = learner.build(trial, opened)
        assert learner.evaluate(model, opened).keys() == {
            one for one in system("cvae_psf").metrics if one.startswith("val/")
        }
    baselines = learner.baselines(sets, learner.open_test(sets), model)
    assert baselines["components"].errors["prior_rel_l2"].shape == (8,)
