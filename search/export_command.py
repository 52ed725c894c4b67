"""`psf-search export`: the winner in the form that another program takes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from deeplens_workers import measured, psf_file
from search.exported import complete, find_model, run_of
from search.options import check_out, numbers, writing
from search.plan import check_writable
from search.unit_inputs import model_directory
from search.winner import Winner
from spaces.errors import SpaceError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from trainables.psf.model import PSFModel

GRID = "32x32"
LARGEST_GRID = 256
"""Along a side. Its kernels take some hundred megabytes."""
AT_ONCE = 1024
"""Kernels that are predicted at once."""
NOTICED = 0.01
"""Halves of the sensor that nodes may lie outside of the trained field before a warning says so."""


class Asked(NamedTuple):
    """Options of the command that some formats take. `name` is the run's, or that of the model's directory."""

    out: Path
    name: str
    grid: tuple[int, int]
    pixel_um: float | None
    depth: float | None
    focus: float | None


@dataclass(frozen=True)
class Format:
    """One value of `--to`.

    Args:
        suffixes: of `--out`; none: it is a directory.
        options: that go with it.
        write: writes, and says what.
    """

    suffixes: tuple[str, ...]
    options: tuple[str, ...]
    write: Callable[[Winner, Asked], list[Path]]


def export(
    model: Annotated[
        str, typer.Argument(metavar="RUN", help="A run by name or directory, or the directory of an exported model.")
    ],
    to: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="torch: a model's directory; onnx; fits: for photutils; cube: kernels."),
    ] = "torch",
    out: Annotated[
        Path | None,
        typer.Option(
            help=f"File to make, or of torch directory; of cube it ends in {', '.join(psf_file.FORMATS)}.",
            show_default="the run's name, here",
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="NxM", help="Of fits and cube: positions along x and y, over the sensor.", show_default=GRID
        ),
    ] = None,
    pixel_um: Annotated[
        float | None,
        typer.Option(
            metavar="UM",
            help="Of fits: side of a detector's pixel, a multiple of a kernel's.",
            show_default="a kernel's",
        ),
    ] = None,
    depth: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="Of fits and cube: object distance, negative.",
            show_default="of fits the first, of cube all",
        ),
    ] = None,
    focus: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="Of fits and cube: focus distance, negative.",
            show_default="of fits the first, of cube all",
        ),
    ] = None,
    unit: Annotated[
        Path | None,
        typer.Option(
            metavar="MEASURED", help="Of a model of units: measured PSFs of the one to export, as fit-unit takes them."
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Directory of prepared data.", show_default="that of the run")
    ] = None,
) -> None:
    """Write the winner of a run for another program: torch, ONNX Runtime, photutils, or a file of kernels."""
    if to not in FORMATS:
        raise SpaceError(f"--to {to}: no such format; {nearest(to, [*FORMATS])}")
    given = {"--grid": grid, "--pixel-um": pixel_um, "--depth": depth, "--focus": focus, "--unit": unit}
    for option in (option for option, value in given.items() if value is not None):
        if option not in FORMATS[to].options:
            takers = ", ".join(name for name, other in FORMATS.items() if option in other.options)
            raise SpaceError(f"{option}: goes with --to {takers}, not with --to {to}")
    columns, rows = numbers("--grid", grid or GRID, GRID, int)
    if not (2 <= columns <= LARGEST_GRID and 2 <= rows <= LARGEST_GRID):
        raise SpaceError(f"--grid: expected 2 to {LARGEST_GRID} positions along x and along y, but got {grid}")
    directory = find_model(model) if unit is None else model_directory(model)
    run = run_of(directory)
    name = directory.resolve().name if run is None else run.name
    suffixes = FORMATS[to].suffixes
    place = out or Path(f"{name}{suffixes[0] if suffixes else '-model'}")
    _check_place(place, suffixes)
    seen = None if unit is None else (unit, measured.read(unit))
    with complete(directory, cache) as there:
        winner = Winner.load(directory, there, seen)
        with writing(place):
            written = FORMATS[to].write(winner, Asked(place, name, (columns, rows), pixel_um, depth, focus))
    print(*written, sep="\n")


def _check_place(place: Path, suffixes: Sequence[str]) -> None:
    if suffixes:
        check_out(place, suffixes)
    else:
        check_writable("--out", place.absolute().parent)
    if place.suffix == ".onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxscript"))):
        raise SpaceError("--to onnx: needs onnx and onnxscript: pip install 'psf-search[onnx]'")
    _check_new(place)


def _check_new(*places: Path) -> None:
    for place in places:
        if place.exists():
            raise SpaceError(f"--out: {place} exists; name another, or take it away first")


def _several(place: Path, names: Sequence[str]) -> list[Path]:
    """Files of several parts, none of which is there yet: the one asked for, or as many with the parts' names."""
    places = [place] if len(names) == 1 else [place.with_name(f"{place.stem}-{name}{place.suffix}") for name in names]
    _check_new(*places)
    return places


def _torch(winner: Winner, asked: Asked) -> list[Path]:
    partial = asked.out.absolute().with_name(f".{os.getpid()}.{asked.out.name}")
    try:
        partial.mkdir()
        for file in winner.directory.iterdir():
            if file.is_file():
                shutil.copyfile(file, partial / file.name)
        partial.rename(asked.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [asked.out]


def _onnx(winner: Winner, asked: Asked) -> list[Path]:
    from trainables.onnx_file import write_onnx

    graphs = winner.graphs()
    places = _several(asked.out, [*graphs])
    for place, graph in zip(places, graphs.values(), strict=True):
        write_onnx(place, graph)
    return places


def _fits(winner: Winner, asked: Asked) -> list[Path]:
    import torch

    from deeplens_workers.psf_grid import PsfGrid

    model = winner.psf_model()
    waves = model.optics.wavelengths_um
    places = _several(asked.out, [f"{index}-{1000 * wave:.0f}nm" for index, wave in enumerate(waves, start=1)])

    def predict(ideal: NDArray[Any]) -> NDArray[Any]:
        x, y = torch.from_numpy(ideal).float().unbind(-1)
        return _predicted(model, model.field_points(x, y, asked.depth, asked.focus))

    try:
        found = PsfGrid.of(predict, model.optics, asked.grid, asked.pixel_um, asked.depth, asked.focus)
    except ValueError as error:
        raise SpaceError(f"--to fits: {error}") from None
    if model.optics.distortion is None:
        print("warning: the lens' distortion is not known; DET_YX are of a lens without any", file=sys.stderr)
    if found.beyond > NOTICED:
        print(
            f"warning: light at the sensor's edge is from {found.beyond:.1%} outside of the field that the model was trained on; it has "
            "the nearest kernels",
            file=sys.stderr,
        )
    for channel, place in enumerate(places):
        found.write(place, channel)
    columns, rows = asked.grid
    mean, most = found.error.mean(axis=1)[0], found.error[1].max()
    print(
        f"{columns} x {rows} ePSFs, OVERSAMP {found.oversampling}; between them interpolation is off by {mean:.2g} in relative L2 on "
        f"average and {most:.2g} at most; a finer --grid makes it less"
    )
    return places


def _cube(winner: Winner, asked: Asked) -> list[Path]:
    import numpy as np
    import torch

    model = winner.psf_model()
    optics = model.optics
    depths = optics.depths_mm if asked.depth is None else (asked.depth,)
    focuses = (optics.focus_mm or (None,)) if asked.focus is None else (asked.focus,)
    # As `psf-search render` has them: x is fastest, then y, both rising, depth and focus.
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in reversed(asked.grid)), indexing="ij")
    rows, kernels = [], []
    for focus in focuses:
        for depth in depths:
            try:
                points = model.field_points(x.flatten(), y.flatten(), depth, focus)
                kernels.append(_predicted(model, points))
            except ValueError as error:
                raise SpaceError(f"--depth, --focus: {error}") from None
            there = [np.full(len(points), np.nan if one is None else one) for one in (depth, focus)]
            rows.append(np.column_stack([points[:, :2], *there]).astype(np.float32))
    psf_file.write(asked.out, psf_file.ModelFile(optics, np.concatenate(rows), np.concatenate(kernels), asked.name))
    return [asked.out]


def _predicted(model: PSFModel, points: Tensor) -> NDArray[Any]:
    """Kernels [N, C, K, K] at points [N, d]."""
    import torch

    with torch.no_grad():
        kernels: NDArray[Any] = torch.cat([model.predict(part) for part in model.points(points).split(AT_ONCE)]).numpy()
    return kernels


FORMATS = {
    "torch": Format((), (), _torch),
    "onnx": Format((".onnx",), ("--unit",), _onnx),
    "fits": Format((".fits",), ("--grid", "--pixel-um", "--depth", "--focus", "--unit"), _fits),
    "cube": Format((".npz", ".safetensors", ".fits"), ("--grid", "--depth", "--focus", "--unit"), _cube),
}
