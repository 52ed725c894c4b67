"""Fresh kernels for training: an actor keeps rendering chunks of them into a bounded buffer that all lanes read.

A chunk is what a data set's preparation says: random field points of the lens, or units with some positions of each.

Ray carries the chunks, so a lane may be on any node. Lanes never wait for the renderers, and these never run far ahead of
the lanes: a chunk is rendered when the busiest lane has drawn enough kernels to have used up another one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.kernels import RenderRequest
from deeplens_workers.lens_data import Stream
from deeplens_workers.pool import IN_FLIGHT, RenderActors, Rendered, cause

logger = logging.getLogger(__name__)

STREAM = "kernel-stream"
"""Begins the actor's name, in the job's namespace. Ray may hold the name of a killed one for a while, so each has its own."""
RESTARTS = 3  # of that actor, should its process die
CHUNK = 256  # kernels of one unit of work, about: what they share, such as a focus distance, takes 0.1 s to find


@dataclass(frozen=True, eq=False)
class Chunk:
    """Kernels [N, C, K, K] of points [N, 3 or 4], N alike for all; `number` counts chunks in order of arrival."""

    number: int
    points: NDArray[np.float32]
    kernels: NDArray[np.float32]


@dataclass(frozen=True)
class StreamState:
    """Chunks begun and arrived, rays traced, and why there will be no more chunks, if so."""

    begun: int
    arrived: int
    rays_traced: int
    failure: str | None


class KernelStream:
    """Asyncio actor; every method is called with `.remote`.

    Args:
        stream: of a data section.
        chunk: what chunk `index` of a sequence is, of as many kernels as any other.
        actors: of the renderers, not started yet.
    """

    def __init__(self, stream: Stream, chunk: Callable[[int], RenderRequest], actors: RenderActors) -> None:
        self._chunk, self._actors = chunk, actors
        size = len(chunk(0).points)
        self._slots = math.ceil(stream.kernels / size)
        self._buffer: deque[Chunk] = deque(maxlen=self._slots)
        self._draws_per_chunk = size * stream.reuse
        self._drawn: dict[str, int] = {}
        """Kernels drawn by each reader, one that came later as if it had drawn as many as the others before."""
        self._first = self._begun = self._arrived = self._rays = 0
        self._again: list[int] = []
        """Chunks whose renderer died."""
        self._failure: Exception | None = None
        self._changed = asyncio.Condition()
        self._feeds: list[asyncio.Task[None]] = []

    async def wait_full(self) -> None:
        """Return once the buffer is full.

        Raises:
            ValueError: DeepLens cannot render a point.
            RenderError: renderers kept dying.
        """
        self._start(0)
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._buffer) == self._slots or self._failure)
        if len(self._buffer) < self._slots:
            assert self._failure is not None
            raise self._failure

    async def since(self, number: int, reader: str, drawn: int) -> list[Chunk]:
        """Chunks in the buffer that arrived after chunk `number`; none if the stream has failed.

        Args:
            number: of the newest chunk that the caller knows; a restarted actor goes on from there.
            reader, drawn: who asks, and how many kernels its lane has drawn since it last asked.
        """
        self._start(number)
        before = self._drawn.get(reader, max(self._drawn.values(), default=0))
        self._drawn[reader] = before + drawn
        await self._notify()
        # A higher number than our own is of before a restart, after which another caller asked first.
        return [chunk for chunk in self._buffer if chunk.number > number or number > self._arrived]

    async def state(self) -> StreamState:
        """What has been done so far."""
        failure = None if self._failure is None else str(self._failure)
        return StreamState(self._begun, self._arrived, self._rays, failure)

    def _start(self, number: int) -> None:
        """Begin to render: with the first call, for a restarted actor is only constructed."""
        if self._feeds:
            return
        self._first = self._begun = self._arrived = number
        self._actors.start()
        places = range(len(self._actors.handles) * IN_FLIGHT)
        self._feeds = [asyncio.create_task(self._feed(place // IN_FLIGHT)) for place in places]

    def _may_begin(self) -> bool:
        used_up = max(self._drawn.values(), default=0) // self._draws_per_chunk
        return bool(self._again) or self._begun < self._first + self._slots + used_up

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
        while self._failure is None:
            index = await self._next()
            try:
                await self._render(index, place)
            except Exception as error:
                logger.exception("the stream of fresh kernels ends at chunk %d", index)
                self._failure = error
            await self._notify()

    async def _render(self, index: int, place: int) -> None:
        import ray

        wanted = self._chunk(index)
        actor = self._actors.handles[place]
        try:
            unit: Rendered = await actor.render.remote(
                wanted.points, wanted.pixel_pitch_um, wanted.tracing, wanted.units
            )
        except ray.exceptions.RayTaskError as error:
            raise cause(error) from None
        except ray.exceptions.RayError as error:  # the renderer, its node or the result on its way is lost
            self._again.append(index)
            if isinstance(error, ray.exceptions.RayActorError) and actor is self._actors.handles[place]:
                self._actors.replace(actor, error)  # not yet done by the other feed of its place
            return
        self._actors.delivered()
        self._arrived += 1
        self._rays += unit.rays_traced
        self._buffer.append(Chunk(self._arrived, wanted.points, unit.kernels.kernels))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@contextmanager
def streaming(stream: Stream, chunk: Callable[[int], RenderRequest], actors: int) -> Iterator[tuple[str, Any]]:
    """A running `KernelStream` with its buffer full, by name and handle; its actors end with the context.

    Args:
        stream, chunk: as it has them; `chunk` is pickled.
        actors: of the renderers, at least one.

    Raises:
        ValueError: DeepLens cannot render a point.
        RenderError: renderers kept dying.
    """
    import ray

    renderers = RenderActors(chunk(0).lens, actors, name="stream-renderer")
    actor = ray.remote(num_cpus=0, max_restarts=RESTARTS, max_task_retries=RESTARTS)(KernelStream)
    name = f"{STREAM}-{uuid.uuid4().hex}"
    running = actor.options(name=name).remote(stream, chunk, renderers)
    try:
        try:
            ray.get(running.wait_full.remote())
        except ray.exceptions.RayTaskError as error:
            raise cause(error) from None
        yield name, running
    finally:
        ray.kill(running)
