"""`psf-search make-unit`: one unit of a space's data sets as a lens file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deeplens_workers.asbuilt_data import AsBuiltData
from deeplens_workers.preparation import lens_of
from deeplens_workers.unit_lens import SETS, parse_unit, unit_lens
from search.api import as_settings, plan_search
from search.options import LensOption, OverridesOption, check_out, seed_option, writing
from search.unit_inputs import SYSTEM
from spaces.errors import SpaceError
from spaces.files import replacing


def make_unit(
    space: Annotated[str, typer.Option(help="Space whose units they are: a shipped name or a YAML file.")],
    unit: Annotated[
        str, typer.Option(metavar="SET/NUMBER", help=f"Of which set, {', '.join(SETS)}, and which, from 0: train/17.")
    ],
    out: Annotated[Path, typer.Option(help="DeepLens .json file to write.")],
    preset: Annotated[str | None, typer.Option(help="As for run.", show_default="standard")] = None,
    overrides: OverridesOption = None,
    lens: LensOption = None,
    seed: Annotated[int | None, seed_option("Of the run whose unit it is.")] = None,
) -> None:
    """Write one unit of a data set, focused, as a lens file that DeepLens and --lens take."""
    name, number = parse_unit(unit)
    given = {key: value for key, value in {"data.lens": lens, "seed": seed}.items() if value is not None}
    job = plan_search(space, preset=preset, overrides=[*(overrides or []), *as_settings(given)])
    data = job.study.data
    if not isinstance(data, AsBuiltData):
        raise SpaceError(f"--space {space}: its model {job.study.model} knows no units; it takes one of {SYSTEM}")
    check_out(out, (".json",), [job.source.path])
    made = unit_lens(data, lens_of(job.source), job.study.seed, name, number)
    with writing(out), replacing(out) as temporary:
        temporary.write_text(made.text + "\n")
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print(out)
