"""PSF data sets as a search prepares them: the lens found, kernels rendered or streamed by Ray actors."""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from deeplens_workers.cache import cpu_seconds, key
from deeplens_workers.dataset import aspect, chunk_points, meridional_grid, render_sets, requests, training
from deeplens_workers.glasses import find_glass, for_thermal_infrared
from deeplens_workers.kernels import RenderRequest
from deeplens_workers.lens_data import LensData, LensFacts
from deeplens_workers.lens_file import LENSES, LensFile, find_lens
from deeplens_workers.lens_files.conditions import ASKED
from deeplens_workers.psf_data import PsfData
from deeplens_workers.stream import StreamState, streaming
from deeplens_workers.telemetry import rates
from spaces.errors import SpaceError, check
from spaces.system import Preparation, Prepared, Progress, Source, Supply

RAYS = "rays traced"


class LensPreparation[D: LensData](Preparation[D]):
    """What all data sets of a lens' kernels have in common. A subclass says what is rendered, and how it is told."""

    def find(self, data: D) -> Source:
        return find_lens(data.lens, data.configuration, data.sensor_mm)

    def resolved(self, data: D, source: Source) -> D:
        lens = lens_of(source)
        shipped = lens.path.is_relative_to(LENSES)
        return fill_in(data, lens).model_copy(update={"lens": lens.name if shipped else str(lens.path)})

    @abstractmethod
    def requests(self, data: D, lens: LensFile, seed: int) -> dict[str, RenderRequest]:
        """What to render for each set."""

    @abstractmethod
    def counts(self, data: D) -> str:
        """What the sets have, in words."""

    @abstractmethod
    def rays(self, data: D, source: Source) -> int:
        """Rays that the kernels of all sets are made of, all wavelengths."""

    @abstractmethod
    def chunk(self, data: D, lens: LensFile, seed: int, index: int) -> RenderRequest:
        """What chunk `index` of the run's stream is: about `stream.CHUNK` kernels to train on."""

    def places(self, data: D, source: Source, seed: int, cache: Path) -> dict[str, Path]:
        wanted = self.requests(data, lens_of(source), seed)
        return {name: (cache / key(request)).resolve() for name, request in wanted.items()}

    def prepare(
        self, data: D, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        began = time.monotonic()
        channels = len(data.wavelengths_um)

        def report(done: int, total: int, rays: int) -> None:
            if progress is not None:
                progress(done, total, rates(done * channels, rays, time.monotonic() - began))

        rendered = render_sets(data, self.requests(data, lens_of(source), seed), cache, actors, report)
        sets = {name: str(entry.resolve()) for name, entry in rendered.sets.items()}
        took = {name: seconds for name, entry in rendered.sets.items() if (seconds := cpu_seconds(entry)) is not None}
        return Prepared(sets, {RAYS: rendered.rays_traced}, tuple(rendered.warnings), took)

    @contextmanager
    def supply(self, data: D, source: Source, seed: int, actors: int) -> Iterator[Supply]:
        if data.stream is None:
            yield Supply()
            return
        with streaming(data.stream, partial(self.chunk, data, lens_of(source), seed), actors) as (name, stream):
            yield _KernelSupply(name, stream)

    def describe(self, data: D, source: Source) -> dict[str, str]:
        lens = lens_of(source)
        facts = data.lens_facts
        assert facts is not None
        lines = {
            "lens": f"{lens.path} (sha256 {lens.sha256[:12]})",
            "optics": optics(facts),
            **_conditions(data, facts),
            "focus": f"{', '.join(f'{focus:g}' for focus in data.focus_mm)} mm"
            if data.focus_mm
            else "as in the lens file",
            "data set": f"{self.counts(data)} x {len(data.wavelengths_um)} channels, {self.rays(data, source):.3g} rays "
            "(those already in the cache are not traced again)",
        }
        if data.stream is not None:
            lines["stream"] = f"{data.stream.kernels} fresh kernels, each drawn {data.stream.reuse} times on average"
        if lens.notes:
            lines["note"] = "; ".join(lens.notes)
        return lines


class PsfPreparation(LensPreparation[PsfData]):
    """Kernels of one lens at the points of a grid and at held-out positions."""

    def requests(self, data: PsfData, lens: LensFile, seed: int) -> dict[str, RenderRequest]:
        return requests(data, lens, seed)

    def chunk(self, data: PsfData, lens: LensFile, seed: int, index: int) -> RenderRequest:
        return RenderRequest(lens, chunk_points(data, seed, index), *training(data))

    def counts(self, data: PsfData) -> str:
        kernels = data.kernels()
        if data.stream is not None:  # which is trained on in its place
            kernels = {"grid": kernels.pop("train"), **kernels}
        sets = kernels | ({"axis": len(meridional_grid(data))} if data.axis_points else {})
        return f"{', '.join(f'{count} {name}' for name, count in sets.items())} positions"

    def rays(self, data: PsfData, source: Source) -> int:
        return data.rays_total()

    def prepare(
        self, data: PsfData, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        prepared = super().prepare(data, source, seed, cache, actors, progress)
        if data.frame == "meridional":
            prepared.sets["turning"] = json.dumps(
                {"trace_px": data.trace_px, "aspect": aspect(data), "pixel_filter": data.pixel_filter}
            )
        return prepared


class _KernelSupply(Supply):
    """Fresh kernels, from the actor whose name the learner is given."""

    def __init__(self, name: str, stream: Any) -> None:
        self.sets, self._stream = {"stream": name}, stream

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


def fill_in[D: LensData](data: D, lens: LensFile) -> D:
    """The data section with what it leaves open taken from the lens file, and written down where each came from.

    Raises:
        SpaceError: the lens cannot be used so.
    """
    if data.lens_facts is not None:
        return _as_recorded(data, lens)
    found = lens.conditions
    origins = dict.fromkeys(("wavelengths", "object", "pitch", "window"), ASKED) | {"sensor": found.sources["sensor"]}
    changes: dict[str, Any] = {}
    if not data.depths_mm:
        changes["depths_mm"], origins["object"] = (found.depth_mm,), found.sources["depth"]
    if not data.wavelengths_um:
        changes["wavelengths_um"], origins["wavelengths"] = found.wavelengths_um, found.sources["wavelengths"]
    as_in_file = "depths_mm" in changes and not data.focus_mm and data.sensor_mm is None
    data = data.model_copy(update=changes)
    _check_use(data, lens)
    sampling = _sampling(data, lens, as_in_file, origins)
    _check_window(sampling, lens)
    changes = sampling | {"lens_facts": _facts(lens, origins)}
    return check(type(data), data.model_copy(update=changes).model_dump(), where=f"lens {lens.name}")


def _sampling(data: LensData, lens: LensFile, as_in_file: bool, origins: dict[str, str]) -> dict[str, Any]:
    """Pixel pitch and window of a data section; `origins` is told where they came from, unless they were asked for."""
    names = {"pixel_pitch_um": "pitch", "trace_px": "window"}
    given = {name: getattr(data, name) for name in names}
    suits = lens.conditions.sampling
    shipped = lens.path.is_relative_to(LENSES)
    if suits is not None and as_in_file and not any(given.values()) and suits[1] >= data.kernel_px:
        origins |= dict.fromkeys(names.values(), "the lens file")
        given = dict(zip(names, suits, strict=True))
    window_um = math.prod(given.values())  # 0: not given
    if all(given.values()) and shipped and data.sensor_mm is None:
        if suits is not None and window_um < math.prod(suits):
            origins["window"] += f"; {window_um:.4g} um, but the lens file has {math.prod(suits):.4g} um"
        return given
    # The spots of a lens or sensor that nobody here has tried are looked at in any case: what cannot be traced is refused now.
    from deeplens_workers.proposal import propose

    *proposed, spot_um = propose(data, lens)
    origins |= {names[name]: "proposed from the lens' spots" for name, value in given.items() if not value}
    if 0 < window_um < spot_um:
        origins["window"] += f"; {window_um:.4g} um, but the largest spot needs {spot_um:.4g} um"
    return {name: value or found for (name, value), found in zip(given.items(), proposed, strict=True)}


def _check_window(sampling: dict[str, Any], lens: LensFile) -> None:
    pitch, pixels = sampling["pixel_pitch_um"], sampling["trace_px"]
    width, height = lens.conditions.sensor_mm
    if pitch * pixels > 1e3 * max(width, height):
        raise SpaceError(
            f"data.pixel_pitch_um: the window of a kernel, {pixels} pixels of {pitch:g} um, is {1e-3 * pitch * pixels:.4g} mm wide, but "
            f"the sensor is {width:.4g} x {height:.4g} mm; lower it, or data.trace_px"
        )


def _facts(lens: LensFile, origins: dict[str, str]) -> LensFacts:
    found = lens.conditions
    return LensFacts(
        sensor_mm=found.sensor_mm,
        focal_length_mm=found.focal_length_mm,
        f_number=found.f_number,
        field_deg=found.field_deg,
        primary_um=found.primary_um,
        origins=origins,
    )


def _as_recorded[D: LensData](data: D, lens: LensFile) -> D:
    """The data section of a run, which is whole and of this lens."""
    facts, whole = data.lens_facts, (data.depths_mm, data.wavelengths_um, data.pixel_pitch_um, data.trace_px)
    assert facts is not None
    same = _facts(lens, facts.origins)
    if not all(whole) or not np.allclose(facts.sensor_mm, same.sensor_mm) or facts.primary_um != same.primary_um:
        raise SpaceError("data.lens_facts: a run writes it down, of its own lens; leave it out")
    return data


def _check_use(data: LensData, lens: LensFile) -> None:
    focal = lens.conditions.focal_length_mm or 0.0
    if near := [distance for distance in data.focus_mm if -distance <= focal]:
        raise SpaceError(
            f"data.focus_mm: lens {lens.name} cannot be focused at {near[0]:g} mm, within its focal length, {focal:.1f} mm"
        )
    if isinstance(data, PsfData):
        _check_model(data, lens)
    for name, wave in product(lens.glasses, (wave for channel in data.channels() for wave, _ in channel)):
        glass = find_glass(name)
        if not glass.covers(wave):
            low, high = glass.valid_um or (0.0, math.inf)
            raise SpaceError(
                f"lens {lens.name}: glass {name} is known from {low:g} to {high:g} um, but data.wavelengths_um has {wave:g}"
            )


def _check_model(data: PsfData, lens: LensFile) -> None:
    width, height = lens.conditions.sensor_mm
    if data.frame == "meridional" and not lens.centred:
        raise SpaceError(
            f"data.frame: meridional kernels are turned to every azimuth, but lens {lens.name} has a surface that is tilted, "
            "decentred, square or not known to be centred; use `frame: sensor`"
        )
    if data.psf_model == "coherent" and not math.isclose(width, height, rel_tol=1e-6):
        raise SpaceError(
            f"data.psf_model: coherent needs a square sensor, but that of {lens.name} is {width:g} x {height:g} mm"
        )
    if data.psf_model != "geometric" and for_thermal_infrared(lens.glasses):
        raise SpaceError(
            f"data.psf_model: {data.psf_model} is not for lenses of infrared glasses ({', '.join(lens.glasses)})"
        )


def optics(facts: LensFacts) -> str:
    """What a lens is, in a few words."""
    parts = [
        facts.focal_length_mm and f"f = {facts.focal_length_mm:.4g} mm",
        facts.f_number and f"F/{facts.f_number:.3g}",
        facts.field_deg and f"half field {facts.field_deg:.3g} degrees",
        f"primary wavelength {facts.primary_um:g} um",
    ]
    return ", ".join(part for part in parts if part)


def origins(data: LensData) -> list[str]:
    """Sentences on what was not asked for, and where it came from."""
    facts = data.lens_facts
    assert facts is not None
    return [f"{what}: {value}" for what, value in _conditions(data, facts).items() if facts.origins[what] != ASKED]


def _conditions(data: LensData, facts: LensFacts) -> dict[str, str]:
    """What the kernels are made for and where that came from, by the names of `LensFacts.origins`."""
    width, height = facts.sensor_mm
    waves = ", ".join("+".join(f"{wave:g}" for wave, _ in channel) for channel in data.channels())
    values = {
        "wavelengths": f"{waves} um",
        "object": f"{', '.join(f'{depth:g}' for depth in data.depths_mm)} mm",
        "sensor": f"{width:.4g} x {height:.4g} mm",
        "pitch": f"pixels of {data.pixel_pitch_um:g} um",
        "window": f"{data.trace_px} pixels across a kernel",
    }
    return {what: f"{value} ({facts.origins[what]})" for what, value in values.items()}


def lens_of(source: Source) -> LensFile:
    assert isinstance(source, LensFile)
    return source
