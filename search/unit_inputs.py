"""What the commands for units are given: a model, field positions, colours, and whether measured kernels suit the model."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplens_workers.measured import Measured
from results.run_directory import find as find_run
from search.options import numbers
from spaces.errors import SpaceError

SYSTEM = "cvae_asbuilt"
PIXEL_AGREES = 0.02
"""Relative difference of a measured pixel from the model's: a kernel's radius is then wrong by no more."""
WAVELENGTH_AGREES_UM = 0.01
"""A filter of another centre, within its width."""


def model_directory(model: str) -> Path:
    """Of an exported model of units."""
    directory = Path(model)
    if not (directory / "config.json").is_file():
        directory = find_run(model).model
        if not (directory / "config.json").is_file():
            raise SpaceError(f"{model}: this run has no exported model yet; its search ends with one")
    try:
        name = json.loads((directory / "config.json").read_text())["system"]
    except (OSError, ValueError, KeyError, TypeError):
        raise SpaceError(f"{directory / 'config.json'}: not that of an exported model") from None
    if name != SYSTEM:
        raise SpaceError(f"{directory}: a model of {name} knows no units; this takes one of {SYSTEM}")
    return directory


def field_points(at: list[str] | None) -> list[tuple[float, float]]:
    """Of `--at`, x and y of each."""
    points = []
    for text in at or ():
        values = numbers("--at", text)
        if len(values) != 2 or not all(-1 <= value <= 1 for value in values):
            raise SpaceError(f"--at: expected x,y in [-1, 1] such as 0.5,-0.9, but got {text!r}")
        points.append((values[0], values[1]))
    return points


def field_grid(side: int) -> list[tuple[float, float]]:
    """Rows of y, x along each, both rising, over the whole field."""
    levels = [0.0] if side == 1 else [round(2 * one / (side - 1) - 1, 6) for one in range(side)]
    return [(x, y) for y in levels for x in levels]


def few(side: int) -> list[int]:
    """Which of a grid's positions are its corners, the middles of its sides, and its middle."""
    kept = sorted({0, side // 2, side - 1})
    return [row * side + column for row in kept for column in kept]


def agreed(
    config: Any, seen: Measured, file: Path, pixel: float | None, wavelengths: list[float] | None
) -> list[int] | None:
    """Which of the model's channels were measured; None: all.

    Raises:
        SpaceError: pixels or wavelengths are not the model's.
    """
    for option, given, said in (("--pixel", pixel, seen.pixel_um), ("--wavelengths", wavelengths, seen.wavelengths_um)):
        if given is not None and said is not None:
            raise SpaceError(f"{option}: {file} says it itself: {said}")
    own, size = config.pixel_um, seen.pixel_um if pixel is None else pixel
    notes = []
    if own and size is None:
        notes.append(f"{file}: says nothing of its pixels, which must be {own:g} um (--pixel)")
    if own and size is not None and not abs(size / own - 1) <= PIXEL_AGREES:  # nor is it a number
        raise SpaceError(f"{file}: its pixels are {size:g} um, but this model's are {own:g} um; resample the kernels")
    waves = seen.wavelengths_um if wavelengths is None else wavelengths
    chosen = None
    if config.wavelengths and waves is not None:
        chosen = _channels(config, seen, file, waves)
    elif config.wavelengths and seen.kernels.shape[1] == config.channels:
        its = _listed(config.wavelengths)
        notes.append(f"{file}: says nothing of its wavelengths, which must be {its} um (--wavelengths)")
    elif config.wavelengths:
        raise SpaceError(
            f"{file}: its colours are {seen.kernels.shape[1]} and this model's {config.channels}; "
            f"say which with --wavelengths, of {_listed(config.wavelengths)}"
        )
    for note in notes:
        print(note, file=sys.stderr)
    return chosen


def _channels(config: Any, seen: Measured, file: Path, waves: Sequence[float]) -> list[int]:
    """Of the model, in the order of the file's wavelengths."""
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
    """Index of the channel that a table is of: that of `--channel`, or the middle one."""
    if channel is not None and channel > config.channels:
        raise SpaceError(f"--channel: this model has channels 1 to {config.channels}, but got {channel}")
    return config.channels // 2 if channel is None else channel - 1


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
