"""Input of the commands for units: the model, field positions, colours, and checks that measured kernels suit the model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplens_workers.kernels import middle_channel
from deeplens_workers.measured import Measured
from search.exported import find_model
from spaces.errors import SpaceError

Point = tuple[float, ...]
"""x and y, then distances in mm, which are negative."""
Distances = dict[str, tuple[float, float]]
"""The farthest and the nearest distance in mm that a model knows, by name: `depth_mm` or `focus_mm`."""

SYSTEM = "cvae_asbuilt"
PIXEL_AGREES = 0.02
"""Largest relative difference of a measured pixel from the model's. A kernel's radius is then wrong by as much."""
DISTANCE_AGREES = 0.02
"""Largest relative difference of a measured object or focus distance from the model's."""
WAVELENGTH_AGREES_UM = 0.01
"""Largest difference of a measured wavelength from the model's. Colour filters are wider."""


def model_directory(model: str) -> Path:
    """The directory of an exported model of units, which is given by its path or by its run.

    Raises:
        SpaceError: there is no such run, or the model is of another system.
    """
    directory = find_model(model)
    try:
        found = json.loads((directory / "config.json").read_text())
        name, _ = found["system"], dict(found.get("config", {}))
    except (OSError, ValueError, KeyError, TypeError):
        raise SpaceError(f"{directory / 'config.json'}: not that of an exported model") from None
    if name != SYSTEM:
        raise SpaceError(f"{directory}: a model of {name} knows no units; this takes one of {SYSTEM}")
    return directory


def known_distances(directory: Path) -> Distances:
    """The distances that an exported model knows."""
    config = json.loads((directory / "config.json").read_text()).get("config", {})
    ranges = config.get("diopter_ranges", {})
    return {name: (round(-1000 / low, 6), round(-1000 / high, 6)) for name, (low, high) in ranges.items()}


def asked_points(
    at: list[str] | None, side: int, known: Distances, depth: float | None, focus: float | None
) -> list[Point]:
    """The points of `--at`. Without it, these are a grid's at the distances `--depth` and `--focus`.

    Raises:
        SpaceError: a point lies outside the field, has a distance that the model does not know, or lacks one.
    """
    given = {"depth_mm": ("--depth", depth), "focus_mm": ("--focus", focus)}
    distances = []
    for name, (option, distance) in given.items():
        if at and distance is not None:
            raise SpaceError(f"{option}: cannot be given with --at, whose positions have their own distances")
        if name not in known and distance is not None:
            raise SpaceError(f"{option}: this model knows one {name} only, the one it was trained at")
        if name in known and not at:
            far, near = known[name]
            if distance is None or not far <= distance <= near:
                got = "none" if distance is None else f"{distance:g}"
                raise SpaceError(f"{option}: this model knows {name} from {far:g} to {near:g}, but got {got}")
            distances.append(distance)
    if at:
        return [_point(text, known) for text in at]
    levels = [0.0] if side == 1 else [round(2 * one / (side - 1) - 1, 6) for one in range(side)]
    return [(x, y, *distances) for y in levels for x in levels]


def _point(text: str, known: Distances) -> Point:
    ends = [(-1, 1), (-1, 1), *known.values()]
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != len(ends) or not all(
        low <= value <= high for value, (low, high) in zip(values, ends, strict=True)
    ):
        wanted = "".join(f", {name} in [{far:g}, {near:g}]" for name, (far, near) in known.items())
        example = ",".join(["0.5,-0.9", *(f"{far:g}" for far, _ in known.values())])
        raise SpaceError(f"--at: expected x,y in [-1, 1]{wanted} such as {example}, but got {text!r}")
    return tuple(values)


def few(side: int) -> list[int]:
    """The indices of a grid's corners, of the middles of its sides, and of its middle."""
    kept = sorted({0, side // 2, side - 1})
    return [row * side + column for row in kept for column in kept]


def agreed(
    config: Any, seen: Measured, file: Path, pixel: float | None, wavelengths: list[float] | None
) -> list[int] | None:
    """The model's channels that were measured; None if all were.

    Raises:
        SpaceError: pixels, wavelengths or distances are not the model's.
    """
    for name, distance in config.distances_mm.items():
        for its in seen.distances.get(name, ()):
            if abs(its / distance - 1) > DISTANCE_AGREES:  # NaN: the file's own focus
                raise SpaceError(f"{file}: its {name} is {its:g}, but this model was trained at {distance:g} alone")
    for option, given, said in (("--pixel", pixel, seen.pixel_um), ("--wavelengths", wavelengths, seen.wavelengths_um)):
        if given is not None and said is not None:
            raise SpaceError(f"{option}: cannot be given, because {file} has its own: {said}")
    own, size = config.pixel_um, seen.pixel_um if pixel is None else pixel
    notes = []
    if own and size is None:
        notes.append(f"{file}: does not give its pixels, which must be {own:g} um (--pixel)")
    if own and size is not None and not abs(size / own - 1) <= PIXEL_AGREES:  # nor is it a number
        raise SpaceError(f"{file}: its pixels are {size:g} um, but this model's are {own:g} um; resample the kernels")
    waves = seen.wavelengths_um if wavelengths is None else wavelengths
    chosen = None
    if config.wavelengths and waves is not None:
        chosen = _channels(config, seen, file, waves)
    elif config.wavelengths and seen.kernels.shape[1] == config.channels:
        its = _listed(config.wavelengths)
        notes.append(f"{file}: does not give its wavelengths, which must be {its} um (--wavelengths)")
    elif config.wavelengths:
        raise SpaceError(
            f"{file}: has {seen.kernels.shape[1]} colours, but this model has {config.channels}; "
            f"name them with --wavelengths, of {_listed(config.wavelengths)}"
        )
    for note in notes:
        print(note, file=sys.stderr)
    return chosen


def fitted(network: Any, seen: Measured, file: Path, pixel: float | None, wavelengths: list[float] | None) -> Any:
    """The unit that is fitted to the measured kernels of `file`.

    Raises:
        SpaceError: they do not suit the model.
    """
    channels = agreed(network.config, seen, file, pixel, wavelengths)
    try:
        return network.fit(seen.kernels, seen.at(network.config.conditions, file), channels)
    except SpaceError:
        raise
    except ValueError as error:
        raise SpaceError(f"{file}: {error}") from None


def _channels(config: Any, seen: Measured, file: Path, waves: Sequence[float]) -> list[int]:
    """The model's channels, in the order of the file's wavelengths."""
    if len(waves) != seen.kernels.shape[1]:
        raise SpaceError(f"--wavelengths: {file} has {seen.kernels.shape[1]} colours, but got {_listed(waves)}")
    chosen = []
    for wave in waves:
        distance, nearest = min((abs(wave - one), index) for index, one in enumerate(config.wavelengths))
        if not distance <= WAVELENGTH_AGREES_UM or nearest in chosen:
            raise SpaceError(
                f"{file}: its wavelengths are {_listed(waves)} um, but this model's are {_listed(config.wavelengths)} um"
            )
        chosen.append(nearest)
    return chosen


def shown_channel(config: Any, channel: int | None) -> int:
    """Index of the channel that a table shows: the one of `--channel`, or the middle one."""
    if channel is not None and channel > config.channels:
        raise SpaceError(f"--channel: this model has channels 1 to {config.channels}, but got {channel}")
    return middle_channel(config.channels) if channel is None else channel - 1


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
