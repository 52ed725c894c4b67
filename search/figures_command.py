"""`psf-search figures`: the pictures of a finished run drawn again, from its exported model and its test set.

What the report's explorer shows is made again beside them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from results.run import open_run
from search.api import open_test
from search.observer import Observer
from search.options import writing
from search.plan import check_writable
from spaces.errors import SpaceError, nearest


def figures(
    run: Annotated[str, typer.Argument(help="Name of a run, or its directory.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the PNG files.", show_default="figures/ of the run")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This figure, not all of them; may be repeated.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Directory of prepared data.", show_default="that of the run")
    ] = None,
) -> None:
    """Draw the figures of a run's winner again."""
    found = open_run(run)
    model = found.model()
    directory = found.directory.figures if out is None else out
    check_writable("--out", directory)
    study = found.directory.read_record().resolved_study()
    learner, test = study.system.make_learner(), open_test(found, cache, observer=_Progress())
    drawn = learner.figures(model, test)
    if not drawn:
        raise SpaceError(f"run {found.name}: models of {study.model} have no figures")
    for name in only or ():
        if name not in drawn:
            raise SpaceError(f"--only {name}: run {found.name} has no such figure; {nearest(name, list(drawn))}")
    from results.explorer import file as explorer_file
    from results.plots import save  # which takes matplotlib

    with writing(directory):
        for name in save({name: draw for name, draw in drawn.items() if not only or name in only}, directory):
            print(directory / f"{name}.png")
    if out is None and not only and (explorer := learner.explorer(model, test, study)) is not None:
        explorer_file.write(found.directory.explorer, explorer)
        print(found.directory.explorer)


class _Progress(Observer):
    """Says that data is being made."""

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)
