"""`psf-search fit-unit` and `psf-search sample-units`: the commands that use an exported model of units."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deeplens_workers import measured, pinholes
from deeplens_workers.psf_file import FORMATS, write
from deeplens_workers.unit_file import DrawnUnitsFile, UnitFile
from results.narrow_table import WIDEST, NarrowTable
from search.options import check_out, numbers, seed_option, writing
from search.unit_inputs import Point, asked_points, few, fitted, known_distances, model_directory, shown_channel
from spaces.errors import SpaceError

LEVEL = 0.9
GRID, LARGEST_GRID = 9, 25
"""Positions along a side; each position takes a tenth of a second."""
MOST_UNITS = 10_000

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="Directory of an exported model, or a run by name or directory.")
]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="X,Y[,DEPTH][,FOCUS]",
        help="A field position in [-1, 1] and, if the model knows several, distances in mm, negative; may be repeated.",
    ),
]
DepthOption = Annotated[
    float | None,
    typer.Option(metavar="MM", help="Object distance, negative, of the grid; of a model that knows several."),
]
FocusOption = Annotated[
    float | None,
    typer.Option(metavar="MM", help="Focus distance, negative, of the grid; of a model that knows several."),
]
ChannelOption = Annotated[
    int | None, typer.Option(min=1, help="Channel of the table; 1 is the first. Default: the middle one.")
]


def fit_unit(
    model: ModelArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="MEASURED", help="PSFs: .npz, .fits, .safetensors, or a .png or .tif picture with --centres."
        ),
    ],
    at: AtOption = None,
    grid: Annotated[
        int | None,
        typer.Option(
            min=1, max=LARGEST_GRID, help="Positions along x and along y, in place of --at.", show_default=str(GRID)
        ),
    ] = None,
    depth: DepthOption = None,
    focus: FocusOption = None,
    out: Annotated[Path | None, typer.Option(help=f"File of the unit's PSFs to write: {', '.join(FORMATS)}.")] = None,
    centres: Annotated[
        Path | None, typer.Option(help="CSV file of a picture's pinholes: column,row in pixels, x,y in the field.")
    ] = None,
    pixel: Annotated[
        float | None, typer.Option(metavar="UM", help="Side of a measured pixel, if the file does not give it.")
    ] = None,
    wavelengths: Annotated[
        str | None,
        typer.Option(metavar="UM,...", help="Wavelengths of the measured colours, if the file does not give them."),
    ] = None,
    white: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            min=0,
            help="A pixel at this level is saturated: 4095 for 12 bits in 16. Default: the largest integer of the type.",
        ),
    ] = None,
    channel: ChannelOption = None,
) -> None:
    """Fit a unit to its measured PSFs, and print its PSFs elsewhere with their uncertainty."""
    directory = model_directory(model)
    if out is not None:
        check_out(out, tuple(FORMATS), [file, centres, directory / "model.safetensors"])
    if at and grid is not None:
        raise SpaceError("--grid: cannot be given with --at, which names the positions")
    side = GRID if grid is None else grid
    points = asked_points(at, side, known_distances(directory), depth, focus)
    waves = None if wavelengths is None else numbers("--wavelengths", wavelengths, "0.486,0.587")
    seen = _read(file, centres, white)
    network = _load(directory)
    config = network.config
    if isinstance(seen, pinholes.Picture):
        seen = seen.cut(config.kernel_px, white)
    shown = shown_channel(config, channel)
    unit = fitted(network, seen, file, pixel, waves)
    found = _found(unit, points)
    if out is not None:
        _write(out, UnitFile(unit.predict(points).numpy(), **_about(config, points, directory, found)))
    rows = range(len(points)) if at else few(side)
    table = _table(found, {row: points[row] for row in rows}, shown)
    _print(table, f"{_colour(config, shown)}; medians, and the intervals that hold {LEVEL:.0%} of the draws")
    _print_fit(unit)
    if out is not None:
        print(out)


def sample_units(
    model: ModelArgument,
    count: Annotated[int, typer.Option(min=2, max=MOST_UNITS, help="Units to draw.")] = 500,
    seed: Annotated[int, seed_option("Seed of the draws.")] = 0,
    at: AtOption = None,
    depth: DepthOption = None,
    focus: FocusOption = None,
    mtf50: Annotated[
        float | None, typer.Option(metavar="LP_PER_MM", help="A good unit has more than this, at all positions.")
    ] = None,
    channel: ChannelOption = None,
    out: Annotated[Path | None, typer.Option(help="File of the units' PSFs to write: .npz.")] = None,
) -> None:
    """Draw units as a factory makes them, and print how their MTF50 is distributed and how many are good."""
    directory = model_directory(model)
    if out is not None:
        check_out(out, (".npz",))
    points = asked_points(at, 3, known_distances(directory), depth, focus)
    network = _load(directory)
    import torch

    from trainables.asbuilt.population import check_resolved
    from trainables.asbuilt.quantities import lp_per_mm

    config = network.config
    shown = shown_channel(config, channel)
    if mtf50 is not None:
        try:
            check_resolved(config, mtf50)
        except ValueError as error:
            raise SpaceError(f"--mtf50: {error}") from None
    units = network.sample_units(count, torch.Generator().manual_seed(seed))
    values = units.mtf50(points)[..., shown]
    if config.pixel_um:
        values = lp_per_mm(values, config.pixel_um)
    levels = values.quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0).T.tolist()
    table = NarrowTable("position", *(f"{percent} %" for percent in (5, 50, 95)), box=None, pad_edge=False)
    for point, row in zip(points, levels, strict=True):
        table.add_row(_place(point), *(f"{value:.3g}" for value in row))
    unit = "lp/mm" if config.pixel_um else "cycles per pixel"
    _print(table, f"MTF50 in {unit} of {count} units; {_colour(config, shown)}")
    if mtf50 is not None:
        good = units.share_above(points, mtf50, shown)
        print(
            f"yield: {good.share:.1%} of units have an MTF50 above {mtf50:g} lp/mm at all {len(points)} positions "
            f"(95 %: {good.low:.1%} to {good.high:.1%})"
        )
    if out is not None:
        _write(out, DrawnUnitsFile(units.predict(points).numpy(), **_about(config, points, directory, {})))
        print(out)


def _read(file: Path, centres: Path | None, white: float | None) -> measured.Measured | pinholes.Picture:
    picture = file.suffix.lower() in pinholes.SUFFIXES
    if picture and centres is None:
        raise SpaceError(f"{file}: needs --centres, a CSV file of its pinholes")
    if not picture and centres is not None:
        raise SpaceError(f"--centres: goes with a picture ({', '.join(pinholes.SUFFIXES)}), but got {file.name}")
    return measured.read(file, white) if centres is None else pinholes.Picture.read(file, centres)


def _load(directory: Path) -> Any:
    from trainables.exports import load_model

    return load_model(directory)


def _found(unit: Any, points: list[Point]) -> dict[str, Any]:
    """Arrays with a row per position: spread [M], and low, median, high [M, C, 3] of radius and MTF50."""
    import torch

    from trainables.asbuilt.quantities import lp_per_mm

    pixel = unit.model.config.pixel_um
    radius, mtf = (torch.stack(unit.interval(points, name, LEVEL), dim=-1) for name in ("rms_radius", "mtf50"))
    named = (
        {"rms_radius_um": radius * pixel, "mtf50_lp_mm": lp_per_mm(mtf, pixel)}
        if pixel
        else {"rms_radius_pixels": radius, "mtf50_cycles_per_pixel": mtf}
    )
    tensors = {"spread": unit.spread(points), **named}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _table(found: dict[str, Any], points: dict[int, Point], channel: int) -> NarrowTable:
    """Of the rows of `_found` that are at some points."""
    radius, mtf = (name for name in found if name.startswith(("rms_radius", "mtf50")))
    titles = (f"RMS radius\n{_unit_of(radius)}", f"MTF50\n{_unit_of(mtf)}", "rel. L2\nexpected")
    table = NarrowTable("position", *titles, box=None, pad_edge=False)
    for row, point in points.items():
        ranges = (_range(found[name][row, channel]) for name in (radius, mtf))
        table.add_row(_place(point), *ranges, f"{found['spread'][row]:.3f}")
    return table


def _print_fit(unit: Any) -> None:
    """How well the measured kernels are explained, and which colours they are not of."""
    config, misfit = unit.model.config, unit.misfit
    print(f"measured PSFs: rel. L2 {misfit.error:.3f} from the fitted unit's, {misfit.expected:.3f} expected")
    if filled := [one for one in range(config.channels) if one not in unit.channels]:
        print(f"not measured: {', '.join(_colour(config, one) for one in filled)}; filled in by the likeliest unit")
    if misfit.suspicious:
        print(
            "warning: the measured PSFs are hardly those of a unit of this model: another lens or focus, larger tolerances, "
            "wrong positions, or something else than the lens blurs them; do not trust the intervals",
            file=sys.stderr,
        )


def _unit_of(name: str) -> str:
    """The unit of an array of `_found`, in words: the last part of its name."""
    return {"um": "um", "mm": "lp/mm", "pixels": "pixels", "pixel": "cycles/pixel"}[name.rsplit("_", 1)[1]]


def _about(config: Any, points: list[Point], directory: Path, more: dict[str, Any]) -> dict[str, Any]:
    """What a `UnitFile` of a model has besides its kernels."""
    import numpy as np

    columns = dict(zip(config.conditions, np.array(points, dtype=np.float32).T, strict=True))
    if "focus_mm" in columns:
        more = {"focus_mm": columns.pop("focus_mm"), **more}
    return {
        "points": np.stack([*columns.values()], axis=1),
        "pixel_um": config.pixel_um,
        "wavelengths_um": config.wavelengths,
        "source": directory.name,
        "more": more,
    }


def _place(point: Point) -> str:
    return f"({', '.join(f'{value:g}' for value in point)})"


def _colour(config: Any, channel: int) -> str:
    return f"at {config.wavelengths[channel]:g} um" if config.wavelengths else f"channel {channel + 1}"


def _range(values: Any) -> str:
    low, median, high = values
    return f"{median:.3g} [{low:.3g}, {high:.3g}]"


def _print(table: NarrowTable, below: str) -> None:
    # Into a file goes the whole table.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDEST).print(table)
    print(below)


def _write(out: Path, file: UnitFile) -> None:
    with writing(out):
        write(out, file)
