"""Data sets of units of a lens: drawn, placed, rendered by Ray actors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from deeplens_workers.asbuilt_data import OBSERVED_LEVELS, AsBuiltData
from deeplens_workers.dataset import PUPIL_SEED, random_points
from deeplens_workers.kernels import RenderRequest, Tracing, Units
from deeplens_workers.lens_file import LensFile
from deeplens_workers.preparation import LensPreparation, lens_of
from deeplens_workers.stream import CHUNK
from deeplens_workers.tolerances import draw
from deeplens_workers.units import Manufacture
from spaces.errors import SpaceError
from spaces.seeding import named_seed
from spaces.system import Prepared, Progress, Source

EFFECT = 0.5
"""Standard deviations by which each tolerance alone is off, to either side, in the set of their effects."""
FOCUS_SHARED = 4
"""Points in a row that have one focus distance, where these vary: with one for each, kernels take two and a half times as long."""


class AsBuiltPreparation(LensPreparation[AsBuiltData]):
    """Kernels of units at random field positions, of held-out units at positions that they share, and there also of the design and
    of units that are off in one way alone.

    The first 25 kernels of a held-out unit are those it is observed at (`observed_points`).
    """

    def resolved(self, data: AsBuiltData, source: Source) -> AsBuiltData:
        found = super().resolved(data, source)
        made = manufacture(found, lens_of(source))
        try:
            found.check_size(len(made.deviations))
        except ValueError as error:
            raise SpaceError(f"data: {error}, with the effects of {len(made.deviations)} tolerances") from None
        return found

    def requests(self, data: AsBuiltData, lens: LensFile, seed: int) -> dict[str, RenderRequest]:
        return requests(data, lens, seed)

    def chunk(self, data: AsBuiltData, lens: LensFile, seed: int, index: int) -> RenderRequest:
        made, units = manufacture(data, lens), max(1, CHUNK // data.positions)
        values = draw(data.tolerances, units, seed, "stream", len(made.deviations), first=index * units)
        rng = np.random.default_rng(named_seed(seed, "stream", index))
        points = random_points(data, units * data.positions, rng, _focus_shared(data))
        chosen = Units(data.tolerances, values, unit_focus(data))
        return RenderRequest(lens, points, data.pixel_pitch_um, tracings(data)[0], chosen)

    def counts(self, data: AsBuiltData) -> str:
        held_out = data.observed_positions + data.held_out_positions
        return (
            f"{data.units} units at {data.positions} positions to train on, {data.validation_units} and {data.test_units} "
            f"held-out ones at {held_out}"
        )

    def rays(self, data: AsBuiltData, source: Source) -> int:
        return data.rays_total(len(manufacture(data, lens_of(source)).deviations))

    def prepare(
        self, data: AsBuiltData, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        prepared = super().prepare(data, source, seed, cache, actors, progress)
        if data.varied:  # of random ones the sets do not have the extremes
            prepared.sets["distances"] = json.dumps(data.varied)
        return prepared

    def describe(self, data: AsBuiltData, source: Source) -> dict[str, str]:
        lines = super().describe(data, source)
        made = manufacture(data, lens_of(source))
        lines["focus"] = _focus(data)
        lines["units"] = f"{len(made.deviations)} tolerances, {data.tolerances.grade}, {data.tolerances.distribution}"
        if not lens_of(source).centred:
            lines["units"] += "; none is mirrored, as the design is not centred"
        return lines


def _focus(data: AsBuiltData) -> str:
    """Where the sensors of units are, in words."""
    if data.tolerances.compensator == "none":
        return "every sensor is where the lens file has it"
    where = {"axis": "on the axis", "field": "over the field"}[data.tolerances.compensator]
    if len(data.focus_mm) > 1:
        nearest, farthest = max(data.focus_mm), min(data.focus_mm)
        return f"each unit for objects from {farthest:g} to {nearest:g} mm, anew for each distance, {where}"
    return f"each unit for objects at {unit_focus(data):g} mm, {where}"


def manufacture(data: AsBuiltData, lens: LensFile) -> Manufacture:
    """What makes units of a data section's lens.

    Raises:
        SpaceError: the lens is not one that units are made of, or has not the parts that the tolerances name.
    """
    try:
        made = Manufacture(lens, data.tolerances)
    except ValueError as error:
        raise SpaceError(f"data: {error}") from None
    if not made.deviations:
        raise SpaceError("data.tolerances: all are 0, so every unit is the design")
    return made


def unit_focus(data: AsBuiltData) -> float:
    """Object distance in mm that units are focused at where a point has no distance of its own: the first, of several."""
    return (data.focus_mm or data.depths_mm)[0]


def observed_points(data: AsBuiltData) -> NDArray[np.float32]:
    """Field points [25, 3 or 4] at which held-out units are observed, at the first depth and focus: rows of y, x along each, both
    rising."""
    levels = np.array(OBSERVED_LEVELS)
    x, y = np.meshgrid(levels, levels)
    places = [x.reshape(-1), y.reshape(-1), *(np.full(x.size, distances[0]) for distances in data.distances)]
    return np.stack(places, axis=-1).astype(np.float32)


def held_out_points(data: AsBuiltData, seed: int, name: str) -> NDArray[np.float32]:
    """Field points [H, 3 or 4] at which units of a set are judged: evenly spread in x and y; at random depths and focus distances,
    where these vary."""
    rng = np.random.default_rng(named_seed(seed, "positions", name))
    points = random_points(data, data.held_out_positions, rng, _focus_shared(data))
    points[:, :2] = 2 * qmc.Sobol(2, rng=rng).random(_power_of_two(data.held_out_positions))[: len(points)] - 1
    return points


def _focus_shared(data: AsBuiltData) -> int:
    return FOCUS_SHARED if len(data.focus_mm) > 1 else 1


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def tracings(data: AsBuiltData) -> tuple[Tracing, Tracing]:
    """How kernels are made of rays: those to train on, and held-out ones."""
    training = Tracing(
        data.channels(),
        data.trace_px,
        data.kernel_px,
        data.rays,
        PUPIL_SEED,
        centre=data.centre,
        pixel_filter=data.pixel_filter,
    )
    return training, replace(training, rays=data.held_out_rays)


def requests(data: AsBuiltData, lens: LensFile, seed: int) -> dict[str, RenderRequest]:
    """What to render for each set."""
    training, held_out = tracings(data)
    observed = observed_points(data)
    judged = {name: held_out_points(data, seed, name) for name in ("validation", "test")}
    rng = np.random.default_rng(named_seed(seed, "positions", "train"))
    made = manufacture(data, lens)

    everywhere = np.concatenate([observed, *judged.values()])
    count = len(made.deviations)

    def request(points: NDArray[np.float32], values: NDArray[np.float64], tracing: Tracing) -> RenderRequest:
        units = Units(data.tolerances, values, unit_focus(data))
        return RenderRequest(lens, points, data.pixel_pitch_um, tracing, units)

    def drawn(name: str, units: int) -> NDArray[np.float64]:
        return draw(data.tolerances, units, seed, name, count)

    def shared(name: str, units: int) -> RenderRequest:
        return request(np.tile(np.concatenate([observed, judged[name]]), (units, 1)), drawn(name, units), held_out)

    each_alone = EFFECT * np.concatenate([np.eye(count), -np.eye(count)])
    train = random_points(data, data.units * data.positions, rng, _focus_shared(data))
    return {
        "train": request(train, drawn("train", data.units), training),
        "validation": shared("validation", data.validation_units),
        "test": shared("test", data.test_units),
        "nominal": request(everywhere, np.zeros((1, count)), held_out),
        "effects": request(np.tile(everywhere, (2 * count, 1)), each_alone, training),
    }
