"""Rendering a list of field points with 0 (in this process) or n Ray actors: the same bits for any n.

The driver imports neither torch nor deeplens when actors do the work; Ray must have been initialised by the caller.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.kernels import Kernels, RenderRequest, Tracing
from deeplens_workers.lens_file import LensFile
from deeplens_workers.telemetry import count

Rendered = tuple[Kernels, int]
"""Kernels and how many rays were traced for them."""
# called with (points done, points in all)
Progress = Callable[[int, int], None]

CHUNK = 64  # points per unit of work, at least: 0.1 s, long against a call's millisecond
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
        focus_mm: object distance the lens is focused at; None as in its file.
    """

    def __init__(self, lens: LensFile, pixel_pitch_um: float, actors: int, focus_mm: float | None = None) -> None:
        self._optics = (lens, pixel_pitch_um, focus_mm)
        self._content = lens.path.read_bytes()
        if hashlib.sha256(self._content).hexdigest() != lens.sha256:
            raise ValueError(f"lens {lens.path} has changed since it was checked")
        self._actors = actors
        self._pool: list[Any] = []
        self._local: Any = None
        self._deaths = 0
        self.rays_traced = 0
        """Rays that were traced for the results so far; a dead actor's are not known."""

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
        assert (request.lens, request.pixel_pitch_um, request.focus_mm) == self._optics
        chunks = _chunks(request.points, CHUNK if request.tracing.model == "geometric" else 1)
        rendered = Kernels.empty(len(request.points), len(request.tracing.channels), request.tracing.kernel_px)
        done = 0
        for index, (kernels, traced) in (self._here if self._actors == 0 else self._there)(chunks, request):
            rendered.put(chunks[index], kernels)
            done += len(chunks[index])
            self.rays_traced += traced
            if progress:
                progress(done, len(request.points))
        return rendered

    def _here(self, chunks: list[NDArray[np.int64]], request: RenderRequest) -> Iterator[tuple[int, Rendered]]:
        self._local = self._local or _RenderActor(*self._arguments())
        for index, chunk in enumerate(chunks):
            yield index, self._local.render(request.points[chunk], request.tracing)

    def _there(self, chunks: list[NDArray[np.int64]], request: RenderRequest) -> Iterator[tuple[int, Rendered]]:
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
                    busy[actor.render.remote(request.points[chunks[index]], request.tracing)] = (index, actor)
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

    def _arguments(self) -> tuple[str, bytes, float, float | None]:
        lens, pitch, focus = self._optics
        return lens.path.name, self._content, pitch, focus

    def _start(self) -> Any:
        import ray

        name = f"renderer-{next(_actor_numbers)}"
        return ray.remote(num_cpus=1)(_RenderActor).options(name=name).remote(*self._arguments())

    def _replace(self, actor: Any, error: Exception) -> None:
        self._deaths += 1
        if self._deaths > MAX_DEATHS:
            raise RenderError(
                f"{self._deaths} rendering actors died; the last: {str(error).splitlines()[0]}"
            ) from error
        _kill(actor)
        self._pool[self._pool.index(actor)] = self._start()


class _RenderActor:
    """The actor: a `KernelRenderer` in a process of its own, loaded by the first call (a constructor's error would be a death).

    It is given the lens file's name and content: another node need not have the file.
    """

    def __init__(self, file: str, content: bytes, pixel_pitch_um: float, focus_mm: float | None) -> None:
        self._file, self._content = file, content
        self._settings = (pixel_pitch_um, focus_mm)
        self._renderer: Any = None

    def render(self, points: NDArray[np.float32], tracing: Tracing) -> Rendered:
        renderer = self._renderer = self._renderer or self._load()
        before = renderer.rays_traced
        kernels: Kernels = renderer.render(points, tracing)
        traced = renderer.rays_traced - before
        count("psf_search_rays_traced", traced)
        count("psf_search_psfs_rendered", kernels.rays.size)
        return kernels, traced

    def _load(self) -> Any:
        from deeplens_workers.render import load

        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, self._file)
            path.write_bytes(self._content)
            return load(path, *self._settings)


def _chunks(points: NDArray[np.float32], size: int) -> list[NDArray[np.int64]]:
    """Indices of points in units of work: by depth and distance from the axis, for those share their rays."""
    radius = np.hypot(points[:, 0], points[:, 1]).astype(np.float32)
    order = np.lexsort((radius, points[:, 2]))
    changes = 1 + np.flatnonzero((np.diff(radius[order]) != 0) | (np.diff(points[order, 2]) != 0))
    cuts, last = [], 0
    for change in changes.tolist():
        if change - last >= size:
            cuts.append(change)
            last = change
    return np.split(order, cuts)


def _kill(actor: Any) -> None:
    import ray

    if ray.is_initialized():
        ray.kill(actor, no_restart=True)
