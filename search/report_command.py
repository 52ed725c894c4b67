"""`psf-search report`: what a run found as one page, or several runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from results.run_directory import ROOT, find
from search.options import check_out, writing
from search.storage.place import here


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Names of runs, or their directories.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file.", show_default="report.html of the run; of several runs, report.html here"),
    ] = None,
) -> None:
    """Write what a run found as an HTML page; of several runs, one page of them beside each other."""
    found = [find(here(run), ROOT) for run in runs]
    path = out or (found[0].report if len(found) == 1 else Path("report.html"))
    check_out(path, [".html"])
    from results.report import write_report  # once the input has been found good

    with writing(path):
        write_report(found, path)
    print(path)
