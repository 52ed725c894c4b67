"""Rendering a list of field points with 0 (in this process) or n Ray actors: the same bits for any n.

The driver imports neither torch nor deeplens when actors do the work; Ray must have been initialised by the caller.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.kernels import Kernels, RenderRequest
from deeplens_workers.lens_file import LensFile

# called with (points done, points in all)
Progress = Callable[[int, int], None]

CHUNK = 16  # points per unit of work, the block in which the tracer finds chief rays; 0.3 s at 8192 rays
IN_FLIGHT = 2  # units per actor: one being traced, one waiting
MAX_DEATHS = 3  # of actors per Renderer; more mean that the machine or the lens kills them

_actor_numbers = itertools.count()


class RenderError(RuntimeError):
    """Rendering actors kept dying."""


class Renderer:
    """Renders kernels of one lens. A context manager: actors start with the first rendering and are gone at the end.

    Args:
        lens: a checked lens file.
        pixel_pitch_um: sensor pixel pitch in micrometres.
        actors: number of Ray actors with one CPU each; 0 renders in this process.
    """

    def __init__(self, lens: LensFile, pixel_pitch_um: float, actors: int) -> None:
        self._lens = lens
        self._pitch = pixel_pitch_um
        self._actors = actors
        self._pool: list[Any] = []
        self._tracer: Any = None
        self._deaths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the actors, whatever they do."""
        while self._pool:
            _kill(self._pool.pop())

    def render(self, request: RenderRequest, progress: Progress | None = None) -> Kernels:
        """Render the request's points, in order.

        Raises:
            ValueError: DeepLens cannot load the lens, or no light of a point reaches its kernel.
            RenderError: more than `MAX_DEATHS` actors died.
        """
        assert (request.lens, request.pixel_pitch_um) == (self._lens, self._pitch)
        chunks = [request.points[start : start + CHUNK] for start in range(0, len(request.points), CHUNK)]
        parts: list[Kernels | None] = [None] * len(chunks)
        done = 0
        for index, kernels in self._here(chunks, request) if self._actors == 0 else self._there(chunks, request):
            parts[index] = kernels
            done += len(chunks[index])
            if progress:
                progress(done, len(request.points))
        return Kernels.concatenate([part for part in parts if part is not None])

    def _here(self, chunks: list[NDArray[np.float32]], request: RenderRequest) -> Any:
        from deeplens_workers.raytrace import RayTracer

        self._tracer = self._tracer or RayTracer(self._lens.path, self._pitch)
        for index, chunk in enumerate(chunks):
            yield index, self._tracer.render(chunk, **request.tracing())

    def _there(self, chunks: list[NDArray[np.float32]], request: RenderRequest) -> Any:
        """Units of work as they finish: (index, kernels). The units of a dead actor go to the front of the queue again."""
        import ray

        while len(self._pool) < self._actors:
            self._pool.append(self._start())
        waiting = deque(range(len(chunks)))
        busy: dict[Any, tuple[int, Any]] = {}  # reference -> (index, actor)
        while waiting or busy:
            for _, actor in itertools.product(range(IN_FLIGHT), list(self._pool)):
                if waiting and sum(owner is actor for _, owner in busy.values()) < IN_FLIGHT:
                    index = waiting.popleft()
                    busy[actor.render.remote(chunks[index], request.tracing())] = (index, actor)
            [reference], _ = ray.wait(list(busy), num_returns=1)
            index, actor = busy.pop(reference)
            try:
                yield index, ray.get(reference)
            except ray.exceptions.RayActorError as error:
                orphans = [index, *(i for i, owner in busy.values() if owner is actor)]
                busy = {ref: unit for ref, unit in busy.items() if unit[1] is not actor}
                waiting.extendleft(sorted(orphans, reverse=True))
                self._replace(actor, error)
            except ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, ValueError) else error) from None

    def _start(self) -> Any:
        import ray

        name = f"renderer-{next(_actor_numbers)}"
        actor = ray.remote(num_cpus=1)(_Tracer)
        return actor.options(name=name).remote(self._lens, self._pitch)

    def _replace(self, actor: Any, error: Exception) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise RenderError(
                f"{self._deaths} rendering actors died; the last: {str(error).splitlines()[0]}"
            ) from error
        _kill(actor)
        self._pool[self._pool.index(actor)] = self._start()


class _Tracer:
    """The actor: a `RayTracer` in a process of its own, loaded by the first call (a constructor's error would be a death)."""

    def __init__(self, lens: LensFile, pixel_pitch_um: float) -> None:
        self._arguments = (lens.path, pixel_pitch_um)
        self._tracer: Any = None

    def render(self, points: NDArray[np.float32], tracing: dict[str, Any]) -> Kernels:
        from deeplens_workers.raytrace import RayTracer

        self._tracer = self._tracer or RayTracer(*self._arguments)
        kernels: Kernels = self._tracer.render(points, **tracing)
        return kernels


def _kill(actor: Any) -> None:
    import ray

    if ray.is_initialized():
        ray.kill(actor, no_restart=True)
