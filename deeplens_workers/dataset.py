"""The PSF data set of a study: where its field points lie, and their kernels from the cache or freshly rendered."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplens_workers import cache as kernel_cache
from deeplens_workers.kernels import Kernels, RenderRequest, Tracing
from deeplens_workers.lens_data import LensData
from deeplens_workers.lens_file import LensFile
from deeplens_workers.pool import Progress, Renderer
from deeplens_workers.pooling import fine_px
from deeplens_workers.psf_data import PsfData
from deeplens_workers.stream import CHUNK
from deeplens_workers.telemetry import count
from spaces import store
from spaces.seeding import named_seed

# Pupil samples are scrambled by field point already. A constant keeps the training grid's kernels, the same for every
# run, in the cache when only the run's seed changes.
PUPIL_SEED = 0
LOST_LIMIT = 0.01
# Held-out points of one focus distance.
FOCUS_SHARED = 32


@dataclass(frozen=True)
class PsfDataset:
    """Cache entries of the sets (see `requests`, `deeplens_workers.cache.read`), and what it took to have them.

    `rays_traced` is 0 when every set was cached. `warnings` are sentences for the user.
    """

    sets: dict[str, Path]
    rays_traced: int
    warnings: list[str]


def grid_points(data: PsfData) -> NDArray[np.float32]:
    """Field points [N, 3 or 4] of the grid at every depth and focus, row-major.

    Focus, if given, is slowest, then depth, then y, then x, these two rising from -1. See `RenderRequest.points`.
    """
    columns, rows = data.grid
    axes = [np.linspace(-1, 1, columns), np.linspace(-1, 1, rows), *data.distances]
    grid = np.meshgrid(*axes[::-1], indexing="ij")[::-1]
    return np.stack(grid, axis=-1).reshape(-1, len(axes)).astype(np.float32)


def random_points(data: LensData, count: int, rng: np.random.Generator, share: int) -> NDArray[np.float32]:
    """Field points [count, 3 or 4], even in x, y and, between the extremes, in the vergence of depth and focus.

    Args:
        share: how many points in a row have one focus distance, which takes a tenth of a second to set.
    """
    columns = list(rng.uniform(-1, 1, (count, 2)).T)
    for distances, repeat in zip(data.distances, (1, share), strict=False):
        strata = math.ceil(count / repeat)
        fraction = (rng.permutation(strata) + rng.uniform(size=strata)) / strata
        nearest, farthest = max(distances), min(distances)
        between = 1 / ((1 - fraction) / nearest + fraction / farthest)
        between = np.clip(between, farthest, nearest)  # rounding: a single distance stays what it is
        columns.append(np.repeat(between, repeat)[:count])
    return np.stack(columns, axis=-1).astype(np.float32)


def in_frame(data: PsfData, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where kernels to train on are traced for field points [N, 3 or 4].

    In the meridional frame that is the place on the +x axis as far from the sensor's centre; x may there exceed 1.
    """
    if data.frame == "sensor":
        return points
    turned = points.copy()
    turned[:, 0], turned[:, 1] = np.hypot(points[:, 0], aspect(data) * points[:, 1]), 0.0
    return turned


def chunk_points(data: PsfData, seed: int, index: int) -> NDArray[np.float32]:
    """The field points [CHUNK, 3 or 4] of chunk `index` of a run's stream, all with one focus distance."""
    rng = np.random.default_rng(named_seed(seed, "stream", index))
    return in_frame(data, random_points(data, CHUNK, rng, share=CHUNK))


def aspect(data: PsfData) -> float:
    """Height of the sensor over its width."""
    assert data.lens_facts is not None
    width, height = data.lens_facts.sensor_mm
    return height / width


def meridional_grid(data: PsfData) -> NDArray[np.float32]:
    """About `data.axis_points` points [N, 3 or 4] on the +x axis: what an interpolation that turns kernels is given.

    Levels of the radius, of depth and of focus are even, in vergence where they are distances. There are three times as
    many of the radius: along it kernels change most.
    """
    ranges = [(1 / max(one), 1 / min(one)) for one in data.distances]
    varying = sum(low != high for low, high in ranges)
    levels = max(2, round((data.axis_points / 3) ** (1 / (1 + varying)))) if varying else 1
    radii = np.linspace(0, np.hypot(1, aspect(data)), max(4, data.axis_points // levels**varying))
    distances = [1 / np.linspace(*ends, levels if ends[0] != ends[1] else 1) for ends in ranges]
    grid = np.meshgrid(*[radii, np.zeros(1), *distances][::-1], indexing="ij")[::-1]
    return np.stack(grid, axis=-1).reshape(-1, len(grid)).astype(np.float32)


def positions(data: PsfData, seed: int) -> dict[str, NDArray[np.float32]]:
    """Field points [N, 3 or 4] of each set.

    grid: see `grid_points`. It does not depend on the seed. Without random positions to train on it is `train`.
    train, validation, test: see `random_points`; between the grid's points, its depths and its focus distances. The seed and
        the set's name determine them, so the sets are disjoint and each is unmoved by the other's size.
    axis: in the meridional frame, see `meridional_grid`.
    """
    counts = data.kernels()
    drawn = {
        name: random_points(data, count, np.random.default_rng(named_seed(seed, "positions", name)), FOCUS_SHARED)
        for name, count in counts.items()
        if name in ("validation", "test") or (name == "train" and data.random_points)
    }
    if data.random_points:
        found = {**drawn, "train": in_frame(data, drawn["train"]), "grid": grid_points(data)}
    else:
        found = {"train": grid_points(data), **drawn}
    return {**found, "axis": meridional_grid(data)} if data.axis_points else found


def tracings(data: PsfData) -> tuple[Tracing, Tracing]:
    """How kernels are made of rays: those to train on, and held-out ones, which get `held_out_rays`."""
    held_out = Tracing(
        channels=data.channels(),
        trace_px=data.trace_px,
        kernel_px=data.kernel_px,
        rays=data.held_out_rays,
        seed=PUPIL_SEED,
        noise=data.noise and data.noise / 3,  # what eight times the rays would leave of random sampling's noise
        model=data.psf_model,
        centre=data.centre,
        pixel_filter=data.pixel_filter,
    )
    return replace(held_out, rays=data.rays, noise=data.noise), held_out


def training(data: PsfData) -> tuple[float, Tracing]:
    """Pixel pitch in um and rays of the kernels to train on: in the meridional frame of finer pixels, to be turned."""
    tracing, _ = tracings(data)
    if data.frame == "sensor":
        return data.pixel_pitch_um, tracing
    samples = fine_px(data.trace_px, data.kernel_px, data.pixel_filter)
    fine = replace(tracing, trace_px=samples, kernel_px=samples, pooling="smooth")
    return data.pixel_pitch_um * data.trace_px / samples, fine


def requests(data: PsfData, lens: LensFile, seed: int) -> dict[str, RenderRequest]:
    """What to render for each set."""
    on_sensor, held_out = tracings(data)
    how = dict.fromkeys(("validation", "test"), (data.pixel_pitch_um, held_out))
    how |= {"grid": (data.pixel_pitch_um, on_sensor), "train": training(data), "axis": training(data)}
    if not data.random_points:  # the grid
        how["train"] = how["grid"]
    return {name: RenderRequest(lens, points, *how[name]) for name, points in positions(data, seed).items()}


def render_sets(
    data: LensData,
    wanted: dict[str, RenderRequest],
    cache: Path,
    actors: int,
    progress: Progress | None = None,
) -> PsfDataset:
    """Have sets in the cache, rendering what is missing or corrupt.

    Args:
        data: the study's data section.
        wanted: the sets' requests, all of its lens.
        cache: directory of cache entries, created if need be.
        actors: Ray actors to render with, shared by the sets; 0 renders in this process.
        progress: called with (points done, points in all, rays of their kernels) of what has to be rendered.

    Raises:
        ValueError: no light of a point reaches its kernel.
        RenderError: rendering actors kept dying.
    """
    entries = {name: cache / kernel_cache.key(request) for name, request in wanted.items()}
    warnings = [warning for entry in entries.values() if (warning := store.drop_if_corrupt(entry))]
    missing = [name for name, entry in entries.items() if not entry.is_dir()]
    for name in entries.keys() - missing:
        count("psf_search_cache_hits", len(wanted[name].points) * len(wanted[name].tracing.channels))
    total = sum(len(wanted[name].points) for name in missing)
    done = all_rays = 0
    with Renderer(wanted["train"].lens, actors) as renderer:
        for name in missing:

            def report(points: int, _: int, rays: int, before: tuple[int, int] = (done, all_rays)) -> None:
                if progress:
                    progress(before[0] + points, total, before[1] + rays)

            before = renderer.cpu_seconds
            kernels = renderer.render(wanted[name], report)
            kernel_cache.write(cache, wanted[name], kernels, renderer.cpu_seconds - before)
            done += len(wanted[name].points)
            all_rays += int(kernels.rays.sum())
        rays_traced = renderer.rays_traced
    store.evict(cache, keep=entries.values())
    warnings += sampling_warnings(kernel_cache.read(entries.get("grid", entries["train"])), data)
    return PsfDataset(entries, rays_traced=rays_traced, warnings=warnings)


def sampling_warnings(kernels: Kernels, data: LensData) -> list[str]:
    """Sentences for the user when the kernel's pixels or window do not suit the PSF."""
    warnings = []
    model_px = data.trace_px / data.kernel_px
    radius = float(np.median(kernels.rms_radius_px)) / model_px
    if radius < 1.0:
        warnings.append(
            f"the PSF is smaller than about one model pixel (median RMS radius {radius:.2f} of {model_px:.1f} sensor pixels), "
            f"so kernels are nearly deltas; lower data.pixel_pitch_um ({data.pixel_pitch_um:g}) or data.trace_px ({data.trace_px})"
        )
    losing = kernels.lost.max(axis=1) > LOST_LIMIT
    if losing.any():
        warnings.append(
            f"{losing.sum()} of {len(losing)} kernels lose more than {LOST_LIMIT:.0%} of their light outside the window "
            f"(at worst {kernels.lost.max():.1%}); raise data.trace_px ({data.trace_px}) or data.pixel_pitch_um ({data.pixel_pitch_um:g})"
        )
    return warnings
