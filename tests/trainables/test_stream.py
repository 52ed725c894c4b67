"""Fresh kernels while training: real Ray actors, a real lens, real deaths."""

import os
import signal

import pytest
import torch

from deeplens_workers.dataset import tracings
from deeplens_workers.lens_file import find_lens
from deeplens_workers.pool import Renderer
from deeplens_workers.stream import CHUNK, chunk_points, streaming
from spaces.study import PsfData
from trainables.stream import POLL_STEPS, StreamReader

SEED = 5
CONDITIONS = ("x", "y", "depth_mm", "focus_mm")


def streamed(**changes) -> PsfData:
    fields = {
        "lens": "cooke_triplet_50mm",
        "pixel_pitch_um": 3.2,
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


def refresh_until_fresh(reader: StreamReader, drawn: int) -> None:
    """Go on drawing until another chunk has come; returns at once when it has."""
    import ray

    before = reader.fresh
    while reader.fresh == before:
        reader.refresh(drawn)
        if reader._answer is not None:
            ray.wait([reader._answer])


@pytest.fixture(scope="module")
def running(ray_session):
    """The one stream of all tests here: its name is taken while it runs."""
    with streaming(streamed(), SEED, actors=2, lanes=1) as actor:
        yield actor


def test_the_buffer_holds_the_sequences_kernels_and_nothing_more_is_rendered_until_they_are_used_up(running):
    import ray

    data = streamed()
    with Renderer(find_lens(data.lens), data.pixel_pitch_um, actors=0) as renderer:
        one = renderer._actors.here()
        expected = {
            chunk_points(data, SEED, index).tobytes(): one.render(chunk_points(data, SEED, index), tracings(data)[0])[0]
            for index in range(2)
        }
    chunks = ray.get(running.since.remote(0, 0))
    assert [chunk.number for chunk in chunks] == [1, 2]
    for chunk in chunks:
        assert chunk.kernels.tobytes() == expected[chunk.points.tobytes()].kernels.tobytes()
    assert ray.get(running.since.remote(2, 0)) == []
    state = ray.get(running.state.remote())
    assert (state.begun, state.arrived, state.drawn) == (2, 2, 0)


def test_a_reader_is_given_fresh_kernels_for_those_it_has_used_up(running):
    import ray

    reader = StreamReader(running, CONDITIONS)
    kernels, points = reader.train.kernels.clone(), reader.train.points.clone()
    assert kernels.shape == (2 * CHUNK, 3, 8, 8)
    refresh_until_fresh(reader, drawn=2 * CHUNK // POLL_STEPS)  # as many as one chunk is worth, between two polls
    assert reader.fresh == CHUNK
    assert reader.train.kernels.data_ptr() == reader.train.kernels[:1].data_ptr()
    changed = (reader.train.points != points).any(dim=1)
    assert int(changed.sum()) == CHUNK
    assert torch.equal(changed, (reader.train.kernels != kernels).flatten(1).any(dim=1))
    torch.testing.assert_close(reader.train.kernels.sum(dim=(-2, -1)), torch.ones(2 * CHUNK, 3))
    state = ray.get(running.state.remote())
    assert state.begun <= 2 + state.drawn // (2 * CHUNK)


def test_a_killed_renderer_loses_no_chunk(running):
    import ray

    reader = StreamReader(running, CONDITIONS)
    kill(ray.get_actor(next(name for name in _actors() if name.startswith("stream-renderer"))))
    for _ in range(3):
        refresh_until_fresh(reader, drawn=CHUNK)
    newest = ray.get(running.since.remote(0, 0))[-1]
    assert newest.points.tobytes() in {chunk_points(streamed(), SEED, index).tobytes() for index in range(20)}


def test_a_killed_stream_starts_again_and_readers_go_on(running):
    reader = StreamReader(running, CONDITIONS)
    kill(running)
    for _ in range(2):
        refresh_until_fresh(reader, drawn=CHUNK)


def _actors() -> list[str]:
    from ray.util import list_named_actors

    return [str(name) for name in list_named_actors()]
