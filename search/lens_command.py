"""`psf-search lens`: what was read from a lens file, drawn and analysed, without a search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in, optics, origins
from deeplens_workers.psf_data import PsfData
from results.narrow_table import WIDEST, NarrowTable
from results.run_directory import RunError
from search.options import ConfigurationOption, SensorOption, check_out, numbers
from search.plan import check_writable
from spaces.disk import full_disk
from spaces.errors import SpaceError, check
from spaces.files import replacing

DRAWINGS = Path("results/lenses")


def lens(
    file: Annotated[str, typer.Argument(help="Shipped lens name or .json, .zmx, .seq file.")],
    to: Annotated[Path | None, typer.Option(help="DeepLens .json file to write the lens to.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the drawings.", show_default="results/lenses/NAME")
    ] = None,
    sensor: SensorOption = None,
    configuration: ConfigurationOption = None,
    depth: Annotated[float | None, typer.Option(help="Object distance in mm, negative; default: the file's.")] = None,
) -> None:
    """Show what is read from a lens file: surfaces, optics, warnings; a drawing, spots, distortion, illumination."""
    if to is not None:
        check_out(to, (".json",), [Path(file)], "--to")
    if out is not None:
        check_writable("--out", out)
    asked = {
        "lens": file,
        "configuration": configuration,
        "sensor_mm": sensor and numbers("--sensor", sensor, "36x24"),
        "depths_mm": None if depth is None else [depth],
    }
    data = check(PsfData, {key: value for key, value in asked.items() if value is not None}, where="lens")
    found = find_lens(file, data.configuration, data.sensor_mm)
    from deeplens_workers.lens_view import COLUMNS, table, view

    # Into a file goes the whole table.
    console = Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else WIDEST)
    rows = NarrowTable(*COLUMNS, box=None, pad_edge=False)
    for row in table(found):
        rows.add_row(*row)
    console.print(rows)
    for note in found.notes:
        console.print(f"note: {note}", soft_wrap=True)
    data = fill_in(data, found)
    assert data.lens_facts is not None
    for line in (optics(data.lens_facts), f"aperture: {found.conditions.sources['aperture']}", *origins(data)):
        console.print(line, soft_wrap=True)
    try:
        seen = view(found, data)
    except ValueError as error:
        raise SpaceError(str(error)) from None
    folder = DRAWINGS / found.name if out is None else out
    from spaces.drawing import FORMATS, save
    from trainables.psf.lens_figures import lens_figures

    try:
        paths = [folder / f"{name}.{one}" for name in save(lens_figures(seen), folder) for one in FORMATS]
        if to is not None:
            with replacing(to) as temporary:
                temporary.write_text(found.text + "\n")
            paths.append(to)
    except OSError as error:
        raise RunError(full_disk(error, folder) or f"{error.filename or folder}: {error.strerror}") from None
    sys.stdout.write("".join(f"{path}\n" for path in paths))
