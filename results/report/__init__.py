"""`report.html`: what a run found, as one page for people, in one file that asks no network for anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from results.analysis import analyze
from results.explorer import section
from results.report.page import run_page
from results.report.runs import runs_page
from results.run_directory import RunDirectory
from results.several import analyze_several
from spaces.files import write


def write_report(runs: Sequence[RunDirectory], path: Path) -> None:
    """Write the page of a run, or one page of several runs beside each other, to a file. They may still be running.

    Raises:
        SpaceError: a run is given twice.
        RunError: a run's files are missing or damaged.
        OSError: the file cannot be written.
    """
    if len(runs) == 1:
        (run,) = runs
        analysis = analyze(run)
        # One that has been extended, and goes on, still has the explorer of an earlier winner.
        page = run_page(run, analysis, None if analysis.summary is None else section(run.path))
    else:
        page = runs_page(analyze_several(runs))
    write(path, page.encode())
