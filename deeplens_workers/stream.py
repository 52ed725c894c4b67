"""Fresh kernels for training: an actor keeps rendering random field points into a bounded buffer that all lanes read.

Ray carries the chunks, so a lane may be on any node. Lanes never wait for the renderers, and these never run far ahead of
the lanes: a chunk is rendered when enough kernels have been drawn to have used up another one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.dataset import random_points, tracings
from deeplens_workers.lens_file import find_lens
from deeplens_workers.pool import IN_FLIGHT, RenderActors, RenderError
from spaces.seeding import named_seed
from spaces.study import PsfData

STREAM = "kernel-stream"
"""The actor's name, in the job's namespace."""
RESTARTS = 3  # of that actor, should its process die
CHUNK = 256  # kernels of one unit of work; they share a focus distance, which takes 0.1 s to find


@dataclass(frozen=True, eq=False)
class Chunk:
    """Kernels [CHUNK, C, K, K] of random points [CHUNK, 3 or 4]; `number` counts chunks in order of arrival, from 1."""

    number: int
    points: NDArray[np.float32]
    kernels: NDArray[np.float32]


@dataclass(frozen=True)
class StreamState:
    """Chunks begun and arrived since the start, and kernels drawn by all lanes."""

    begun: int
    arrived: int
    drawn: int


def slots(data: PsfData) -> int:
    """Chunks that the buffer of a data set's stream holds."""
    assert data.stream is not None
    return math.ceil(data.stream.kernels / CHUNK)


def chunk_points(data: PsfData, seed: int, index: int) -> NDArray[np.float32]:
    """The field points [CHUNK, 3 or 4] of chunk `index` of a run's sequence."""
    points = random_points(data, CHUNK, np.random.default_rng(named_seed(seed, "stream", index)))
    points[:, 3:] = points[:1, 3:]
    return points


class KernelStream:
    """Asyncio actor; every method is called with `.remote`.

    Args:
        data: a data section with `stream`.
        seed: the run's seed: it determines every chunk.
        actors: of the renderers, not started yet.
        lanes: how many lanes draw, each its own share.
    """

    def __init__(self, data: PsfData, seed: int, actors: RenderActors, lanes: int) -> None:
        assert data.stream is not None
        self._data, self._seed, self._actors = data, seed, actors
        self._tracing, _ = tracings(data)
        self._buffer: deque[Chunk] = deque(maxlen=slots(data))
        # Kernels drawn by all lanes for each chunk that is rendered.
        self._draws_per_chunk = CHUNK * data.stream.reuse * lanes
        self._begun = self._arrived = self._drawn = 0
        self._again: list[int] = []
        """Chunks whose actor died."""
        self._failure: Exception | None = None
        self._changed = asyncio.Condition()
        self._feeds: list[asyncio.Task[None]] = []

    async def wait_full(self) -> None:
        """Return once the buffer is full.

        Raises:
            ValueError: DeepLens cannot render a point.
            RenderError: renderers kept dying.
        """
        self._start()
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._buffer) == self._buffer.maxlen or self._failure)
        self._check()

    async def since(self, number: int, drawn: int) -> list[Chunk]:
        """Chunks in the buffer that arrived after chunk `number`; `drawn`: kernels the caller drew since its last call.

        A restarted actor counts from 1 again: to it, a higher number than its own means none.

        Raises:
            ValueError, RenderError: as `wait_full`; there will be no fresh kernels.
        """
        self._start()
        self._check()
        self._drawn += drawn
        async with self._changed:
            self._changed.notify_all()
        return [chunk for chunk in self._buffer if chunk.number > number or number > self._arrived]

    async def state(self) -> StreamState:
        """What has been done so far."""
        return StreamState(self._begun, self._arrived, self._drawn)

    def _start(self) -> None:
        """Begin to render: with the first call, for a restarted actor is only constructed."""
        if self._feeds:
            return
        self._actors.start()
        places = range(len(self._actors.handles) * IN_FLIGHT)
        self._feeds = [asyncio.create_task(self._feed(place // IN_FLIGHT)) for place in places]

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _may_begin(self) -> bool:
        assert self._buffer.maxlen is not None
        return bool(self._again) or self._begun < self._buffer.maxlen + self._drawn // self._draws_per_chunk

    async def _next(self) -> int:
        """Index of the chunk to render next, as soon as it is wanted."""
        async with self._changed:
            await self._changed.wait_for(self._may_begin)
        if self._again:
            return self._again.pop()
        self._begun += 1
        return self._begun - 1

    async def _feed(self, place: int) -> None:
        """Keep one unit of work with the renderer at a place of the pool."""
        import ray

        while self._failure is None:
            index = await self._next()
            points = chunk_points(self._data, self._seed, index)
            actor = self._actors.handles[place]
            try:
                rendered, _ = await actor.render.remote(points, self._tracing)
            except ray.exceptions.RayActorError as error:
                self._again.append(index)
                if actor is self._actors.handles[place]:  # not yet replaced by the other feed of its place
                    try:
                        self._actors.replace(actor, error)
                    except RenderError as too_many:
                        self._failure = too_many
            except ray.exceptions.RayTaskError as error:
                self._failure = error.cause if isinstance(error.cause, ValueError) else error
            else:
                self._arrived += 1
                self._buffer.append(Chunk(self._arrived, points, rendered.kernels))
            async with self._changed:
                self._changed.notify_all()


@contextmanager
def streaming(data: PsfData, seed: int, actors: int, lanes: int) -> Iterator[Any]:
    """The stream of a data set with its buffer full, or None if the data set has none; its actors end with the context.

    Args:
        seed: the run's seed.
        actors: of the renderers, at least one.
        lanes: how many lanes will draw.

    Raises:
        ValueError: DeepLens cannot render a point.
        RenderError: renderers kept dying.
    """
    if data.stream is None:
        yield None
        return
    import ray

    renderers = RenderActors(find_lens(data.lens), data.pixel_pitch_um, actors, name="stream-renderer")
    actor = ray.remote(num_cpus=0, max_restarts=RESTARTS, max_task_retries=RESTARTS)(KernelStream)
    stream = actor.options(name=STREAM).remote(data, seed, renderers, lanes)
    try:
        try:
            ray.get(stream.wait_full.remote())
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, ValueError | RenderError) else error) from None
        yield stream
    finally:
        ray.kill(stream)
