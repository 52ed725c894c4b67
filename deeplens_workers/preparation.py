"""PSF data sets as a search prepares them: the lens found, kernels rendered or streamed by Ray actors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deeplens_workers.cache import key
from deeplens_workers.dataset import render_dataset, requests
from deeplens_workers.lens_file import LENSES, LensFile, find_lens
from deeplens_workers.psf_data import PsfData
from deeplens_workers.stream import STREAM, StreamState, streaming
from deeplens_workers.telemetry import rates
from spaces.system import Preparation, Prepared, Progress, Source, Supply

RAYS = "rays traced"


class PsfPreparation(Preparation[PsfData]):
    """Kernels of one lens at the points of a grid and at held-out positions."""

    def find(self, data: PsfData) -> Source:
        return find_lens(data.lens)

    def resolved(self, data: PsfData, source: Source) -> PsfData:
        shipped = source.path.is_relative_to(LENSES)
        return data.model_copy(update={"lens": source.name if shipped else str(source.path.resolve())})

    def places(self, data: PsfData, source: Source, seed: int, cache: Path) -> dict[str, Path]:
        wanted = requests(data, _lens(source), seed)
        return {name: (cache / key(request)).resolve() for name, request in wanted.items()}

    def prepare(
        self, data: PsfData, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        began = time.monotonic()
        channels = len(data.wavelengths_um)

        def report(done: int, total: int, rays: int) -> None:
            if progress is not None:
                progress(done, total, rates(done * channels, rays, time.monotonic() - began))

        rendered = render_dataset(data, _lens(source), seed, cache, actors, report)
        sets = {name: str(getattr(rendered, name).resolve()) for name in ("train", "validation", "test")}
        return Prepared(sets, {RAYS: rendered.rays_traced}, tuple(rendered.warnings))

    @contextmanager
    def supply(self, data: PsfData, source: Source, seed: int, actors: int) -> Iterator[Supply]:
        if data.stream is None:
            yield Supply()
            return
        with streaming(data, _lens(source), seed, actors) as stream:
            yield _KernelSupply(stream)

    def describe(self, data: PsfData, source: Source) -> dict[str, str]:
        counts = ", ".join(f"{count} {name}" for name, count in data.kernels().items())
        lines = {
            "lens": f"{source.path} (sha256 {source.sha256[:12]})",
            "data set": f"{counts} positions x {len(data.wavelengths_um)} channels, {data.rays_total():.3g} rays "
            "(those already in the cache are not traced again)",
        }
        if data.stream is not None:
            lines["stream"] = f"{data.stream.kernels} fresh kernels, each drawn {data.stream.reuse} times on average"
        return lines


class _KernelSupply(Supply):
    """Fresh kernels, from the actor whose name the learner is given."""

    sets = {"stream": STREAM}

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def work(self) -> dict[str, int]:
        state = self._state()
        return {RAYS: state.rays_traced} if isinstance(state, StreamState) else {}

    def failure(self) -> str | None:
        state = self._state()
        failure = state.failure if isinstance(state, StreamState) else state
        return None if failure is None else f"training went on without fresh kernels: {failure}"

    def _state(self) -> StreamState | str:
        """The stream's state, or why it has none any more."""
        import ray

        try:
            state: StreamState = ray.get(self._stream.state.remote())
        except ray.exceptions.RayError as error:  # it has used up its restarts
            return str(error).splitlines()[0]
        return state


def _lens(source: Source) -> LensFile:
    assert isinstance(source, LensFile)
    return source
