"""Rendering a list of field points with 0 (in this process) or n Ray actors: the same bits for any n.

This module imports neither torch nor deeplens; Ray must have been initialised by the caller.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.kernels import Kernels, RenderRequest, Tracing, Units
from deeplens_workers.lens_file import LensFile
from deeplens_workers.telemetry import count


class Rendered(NamedTuple):
    """Kernels, and what they took: rays traced, and seconds of CPU."""

    kernels: Kernels
    rays_traced: int
    cpu_seconds: float


# called with (points done, points in all, rays that the kernels so far are made of)
Progress = Callable[[int, int, int], None]

# Points per unit of work: long against what a call takes, and so that all actors end together.
LEAST_CHUNK, LARGEST_CHUNK = 64, 256
IN_FLIGHT = 2  # units per actor: one being traced, one waiting
SIGNALS_SEEN = 1.0
"""Seconds between two looks at whether a signal has come; Ray itself looks every ten."""
STARTING = 8.0
"""Seconds that it takes another actor to start, nearly all of them imports; two cores are busy with those of a search."""
MAX_DEATHS = 3  # of actors, one after the other without a result; more mean that the machine or the lens kills them


_numbers = itertools.count()


class RenderError(RuntimeError):
    """Rendering actors kept dying."""


class RenderActors:
    """Ray actors that render kernels of one lens, with one CPU each; replaced as they die. Can be pickled until started.

    Args:
        lens: a checked lens file.
        count: how many.
        name: what the Ray dashboard shows, before a number.
    """

    def __init__(self, lens: LensFile, count: int, name: str = "renderer") -> None:
        self._lens, self.count, self._name = lens, count, name
        self._deaths = 0
        self.handles: list[Any] = []

    def start(self, at_most: int | None = None) -> None:
        """Start those that are missing, or enough of them for `at_most` to be there."""
        while len(self.handles) < min(self.count, at_most or self.count):
            self.handles.append(self._new())

    def replace(self, dead: Any, error: Exception) -> None:
        """Start another in the place of one that died of `error`.

        Raises:
            RenderError: more than `MAX_DEATHS` died since the last result.
        """
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise RenderError(
                f"{self._deaths} rendering actors died; the last: {str(error).splitlines()[0]}"
            ) from error
        _kill(dead)
        self.handles[self.handles.index(dead)] = self._new()

    def delivered(self) -> None:
        """A result has come: earlier deaths no longer count."""
        self._deaths = 0

    def close(self) -> None:
        """Kill the actors, whatever they do."""
        while self.handles:
            _kill(self.handles.pop())

    def here(self) -> _RenderActor:
        """What an actor does, in this process."""
        return _RenderActor(self._lens)

    def _new(self) -> Any:
        import ray

        actor = ray.remote(num_cpus=1)(_RenderActor).options(name=f"{self._name}-{next(_numbers)}")
        return actor.remote(self._lens)


class Renderer:
    """Renders kernels of one lens. A context manager: actors start with the first rendering and are gone at the end.

    One starts first, and the others when it is known that they come in time: a small data set renders while they would start.

    Args:
        lens: a checked lens file.
        actors: number of Ray actors with one CPU each; 0 renders in this process.
    """

    def __init__(self, lens: LensFile, actors: int) -> None:
        self._lens = lens
        self._actors = RenderActors(lens, actors)
        self._local = None if actors else self._actors.here()
        self.rays_traced = 0
        """Rays that were traced for the results so far; a dead actor's are not known."""
        self.cpu_seconds = 0.0
        """Of the CPU, likewise."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the actors, whatever they do."""
        self._actors.close()

    def render(self, request: RenderRequest, progress: Progress | None = None) -> Kernels:
        """Render the request's points, in order.

        Raises:
            ValueError: DeepLens cannot load the lens, or no light of a point reaches its kernel.
            RenderError: actors kept dying.
        """
        assert request.lens == self._lens
        if request.units is None:
            chunks = _chunks(request.points, self._chunk(request))
        else:
            chunks = _chunks_of_units(request, self._chunk(request))
        rendered = Kernels.empty(len(request.points), len(request.tracing.channels), request.tracing.kernel_px)
        done = rays = 0
        for index, unit in (self._there if self._local is None else self._here)(chunks, request):
            rendered.put(chunks[index], unit.kernels)
            done += len(chunks[index])
            self.rays_traced += unit.rays_traced
            self.cpu_seconds += unit.cpu_seconds
            rays += int(unit.kernels.rays.sum())
            if progress:
                progress(done, len(request.points), rays)
        return rendered

    def _chunk(self, request: RenderRequest) -> int:
        """Points per unit of work, at least."""
        if request.tracing.model != "geometric":
            return 1  # it takes seconds
        share = math.ceil(len(request.points) / (IN_FLIGHT * self._actors.count)) if self._actors.count else 0
        return min(max(share, LEAST_CHUNK), LARGEST_CHUNK)

    def _here(self, chunks: list[NDArray[np.int64]], request: RenderRequest) -> Iterator[tuple[int, Rendered]]:
        assert self._local is not None
        for index, chunk in enumerate(chunks):
            yield index, self._local.render(*_part(request, chunk))

    def _there(self, chunks: list[NDArray[np.int64]], request: RenderRequest) -> Iterator[tuple[int, Rendered]]:
        """Units of work as they finish: (index, kernels). The units of a dead actor go to the front of the queue again."""
        import ray

        self._actors.start(at_most=1)
        waiting = deque(range(len(chunks)))
        arrived = math.inf
        busy: dict[Any, tuple[int, Any]] = {}  # reference -> (index, actor)
        while waiting or busy:
            for _, actor in itertools.product(range(IN_FLIGHT), list(self._actors.handles)):
                if waiting and sum(owner is actor for _, owner in busy.values()) < IN_FLIGHT:
                    index = waiting.popleft()
                    busy[actor.render.remote(*_part(request, chunks[index]))] = (index, actor)
            while not (ready := ray.wait(list(busy), num_returns=1, timeout=SIGNALS_SEEN)[0]):
                pass
            reference = ready[0]
            index, actor = busy.pop(reference)
            if (
                len(waiting) * (time.monotonic() - arrived) > STARTING
            ):  # the first unit says little: its actor was starting
                self._actors.start()
            arrived = time.monotonic()
            try:
                result = ray.get(reference)
                self._actors.delivered()
                yield index, result
            except ray.exceptions.RayActorError as error:
                orphans = [index, *(i for i, owner in busy.values() if owner is actor)]
                busy = {ref: unit for ref, unit in busy.items() if unit[1] is not actor}
                waiting.extendleft(sorted(orphans, reverse=True))
                self._actors.replace(actor, error)
            except ray.exceptions.RayTaskError as error:
                raise cause(error) from None


class _RenderActor:
    """The actor: a `KernelRenderer` for each pixel pitch, loaded by the first call (a constructor's error would be a death).

    The lens comes as text: another node need not have its file.
    """

    def __init__(self, lens: LensFile) -> None:
        self._lens = lens
        self._renderers: dict[float, Any] = {}

    def render(
        self, points: NDArray[np.float32], pixel_pitch_um: float, tracing: Tracing, units: Units | None = None
    ) -> Rendered:
        renderer = self._loaded(pixel_pitch_um)
        before, began = renderer.rays_traced, time.process_time()
        kernels: Kernels = (
            renderer.render(points, tracing) if units is None else renderer.render_units(points, tracing, units)
        )
        traced, took = renderer.rays_traced - before, time.process_time() - began
        count("psf_search_rays_traced", traced)
        count("psf_search_psfs_rendered", kernels.rays.size)
        return Rendered(kernels, traced, took)

    def _loaded(self, pixel_pitch_um: float) -> Any:
        from deeplens_workers.render import load

        if pixel_pitch_um not in self._renderers:
            self._renderers[pixel_pitch_um] = load(self._lens, pixel_pitch_um)
        return self._renderers[pixel_pitch_um]


def _chunks(points: NDArray[np.float32], size: int) -> list[NDArray[np.int64]]:
    """Indices of points in units of work: by focus, depth and distance from the axis, for those share their rays."""
    sharing = np.column_stack([np.hypot(points[:, 0], points[:, 1]).astype(np.float32), points[:, 2:]])
    order = np.lexsort(sharing.T)
    changes = 1 + np.flatnonzero((np.diff(sharing[order], axis=0) != 0).any(axis=1))
    cuts, last = [], 0
    for change in changes.tolist():
        if change - last >= size:
            cuts.append(change)
            last = change
    return np.split(order, cuts)


def _chunks_of_units(request: RenderRequest, size: int) -> list[NDArray[np.int64]]:
    """Likewise, of whole units: each is built and focused once."""
    assert request.units is not None
    each = len(request.points) // len(request.units.values)
    indices = np.arange(len(request.points))
    whole = each * max(1, size // each)
    return np.split(indices, range(whole, len(indices), whole))


def _part(request: RenderRequest, chunk: NDArray[np.int64]) -> tuple[Any, ...]:
    """What an actor is asked for."""
    units = request.units
    if units is not None:
        each = len(request.points) // len(units.values)
        units = units.take(chunk[::each] // each)
    return request.points[chunk], request.pixel_pitch_um, request.tracing, units


def cause(error: Any) -> Exception:
    """What a Ray task failed of, if it is one of our own errors: it says more than Ray's account of it."""
    ours = isinstance(error.cause, ValueError | RenderError)
    return error.cause if ours else error  # type: ignore[no-any-return]


def _kill(actor: Any) -> None:
    import ray

    if ray.is_initialized():
        ray.kill(actor, no_restart=True)
