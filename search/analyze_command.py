"""`psf-search analyze` and `tune analyze`: what a run found, several runs side by side, or a foreign Ray Tune experiment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType

from results.foreign_files import STATE_FILES, TRIAL_FILES, is_experiment
from results.run_directory import ROOT, RunDirectory
from search.options import RunsRoot, check_out, writing
from search.storage.bucket import is_url
from search.storage.place import Place
from spaces.errors import SpaceError
from spaces.metrics import Mode

if TYPE_CHECKING:
    from results.analysis import Analysis


@dataclass(frozen=True)
class _Answer:
    """What there is to say, worked out when it is asked for: tables, the same for machines, a flat row per trial."""

    tables: Callable[[], RenderableType]
    machine: Callable[[], dict[str, Any]]
    rows: Callable[[], list[dict[str, Any]]]
    page: Callable[[Path], None] | None = None
    """Writes the report; a foreign experiment has none."""


def analyze(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Names or directories of runs, or a Ray Tune experiment's.")
    ],
    out: RunsRoot = str(ROOT),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a table of all trials there, too.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write the report there, too.", show_default=False)
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric of a Ray Tune experiment; default: its own.")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Which of its values is better.")] = None,
) -> None:
    """What a run found: best trials, states, time, the comparison, sensitivity; several runs: what differs, and their winners."""
    if csv is not None:
        check_out(csv, (".csv",), option="--csv")
    if html is not None:
        check_out(html, (".html",), option="--html")
    answer = _answer(runs, Place.of_runs(out), metric, mode)
    if html is not None and answer.page is None:
        raise SpaceError(
            f"--html {html}: {runs[0]} is a Ray Tune experiment that psf-search did not make; it has --csv and --json"
        )
    if csv is not None:
        from results.csv_file import write_rows

        with writing(csv):
            write_rows(csv, answer.rows())
    if html is not None and answer.page is not None:
        with writing(html):
            answer.page(html)
    if as_json:
        print(json.dumps(answer.machine(), indent=2, allow_nan=False))
    else:
        Console(markup=False, highlight=False).print(answer.tables())


def _answer(runs: list[str], out: Place, metric: str | None, mode: Mode | None) -> _Answer:
    foreign = [place for one in runs if (place := _foreign_place(one, out)) is not None]
    if foreign and len(runs) > 1:
        raise SpaceError(f"{foreign[0]}: a Ray Tune experiment that psf-search did not make: it is analyzed alone")
    if foreign:
        return _of_experiment(foreign[0], metric, mode)
    for option, value in (("--metric", metric), ("--mode", mode)):
        if value is not None:
            raise SpaceError(
                f"{option}: goes with a Ray Tune experiment that psf-search did not make; a run has its own"
            )
    return _of_runs([out.find(run).directory for run in runs])


def _foreign_place(name: str, out: Place) -> Path | None:
    """The directory of a Ray Tune experiment of that name; None if a run of ours has it.

    Raises:
        SpaceError: a directory of neither.
    """
    if is_url(name) or out.bucket is not None:
        return None
    places = (out.path / name, Path(name))
    if any((place / "run.json").is_file() for place in places):
        return None
    if (found := next((place for place in places if is_experiment(place)), None)) is not None:
        return found
    if Path(name).is_dir():
        raise SpaceError(
            f"{name}: neither a run (no run.json) nor a Ray Tune experiment (no {STATE_FILES}, no trial with {', '.join(TRIAL_FILES)})"
        )
    return None


def _of_experiment(path: Path, metric: str | None, mode: Mode | None) -> _Answer:
    from results.foreign import read_experiment
    from results.foreign_tables import foreign_as_dict, foreign_rows, foreign_tables

    found = read_experiment(path, metric, mode)
    if mode is not None and found.metric is None:
        raise SpaceError(f"--mode {mode}: of which metric? give --metric; valid: {', '.join(found.metrics) or 'none'}")
    return _Answer(lambda: foreign_tables(found), lambda: foreign_as_dict(found), lambda: foreign_rows(found))


def _of_runs(directories: list[RunDirectory]) -> _Answer:
    from results.analysis import analyze
    from results.report import write_report
    from results.several import analyze_several
    from results.several_tables import several_as_dict, several_tables
    from results.tables import analysis_as_dict, analysis_tables

    def rows(label: str, one: Analysis) -> list[dict[str, Any]]:
        return [{"run": label} | trial.row(one.mode) for trial in one.trials]

    def page(path: Path) -> None:
        write_report(directories, path)

    if len(directories) == 1:
        one = analyze(directories[0])
        return _Answer(
            lambda: analysis_tables(one), lambda: analysis_as_dict(one), lambda: rows(one.record.name, one), page
        )
    several = analyze_several(directories)
    return _Answer(
        lambda: several_tables(several),
        lambda: several_as_dict(several),
        lambda: [row for label, one in several.runs.items() for row in rows(label, one)],
        page,
    )
