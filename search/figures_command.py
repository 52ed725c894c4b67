"""`psf-search figures`: the figures of a run, finished or not, as files, and what the report's explorer shows of its winner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from results.run import Run, open_run
from results.run_directory import RunError
from search.api import open_test
from search.observer import Notes
from search.options import writing
from search.plan import check_writable
from search.storage.place import here
from spaces.errors import SpaceError, nearest
from spaces.study import Study

if TYPE_CHECKING:
    from results.analysis import Analysis
    from spaces.drawing import Figures


def figures(
    run: Annotated[str, typer.Argument(help="Name of a run, or its directory.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the files.", show_default="figures/ of the run")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="This figure, not all of them; may be repeated.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="png, svg or csv; may be repeated.", show_default="all of them"),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Directory of prepared data.", show_default="that of the run")
    ] = None,
) -> None:
    """Draw the figures of a run: of its search, also while it goes on, and of its winner. CSV files have their numbers."""
    from results.explorer import file as explorer_file
    from results.plots import SEARCH_FIGURES
    from spaces.drawing import FORMATS, save

    for one in formats or ():
        if one not in FORMATS:
            raise SpaceError(f"--format {one}: valid: {', '.join(FORMATS)}")
    found = open_run(here(run))
    directory = found.directory.figures if out is None else out
    check_writable("--out", directory)
    asked = only or []
    of_search = _of_search(found, asked)
    winner = None if asked and {*asked} <= {*SEARCH_FIGURES} else _winner(found, asked, cache)
    drawn = of_search if winner is None else winner.learner.figures(*winner[1:]) | of_search
    for name in asked:
        if name not in drawn:
            raise SpaceError(f"--only {name}: run {found.name} has no such figure; {nearest(name, [*drawn])}")
    chosen = [one for one in FORMATS if not formats or one in formats]
    with writing(directory):
        for name, draw in drawn.items():
            if not asked or name in asked:
                save({name: draw}, directory, chosen)
                for one in chosen:
                    print(directory / f"{name}.{one}", flush=True)
    if winner is None or asked or out is not None:
        return
    if (explorer := winner.learner.explorer(*winner[1:])) is not None:
        explorer_file.write(found.directory.explorer, explorer)
        print(found.directory.explorer)


class _Winner(NamedTuple):
    """The exported network of a run, and what it takes to show it."""

    learner: Any
    network: Any
    test: Any
    study: Study


def _winner(run: Run, asked: Sequence[str], cache: Path | None) -> _Winner | None:
    """None: the run has not ended."""
    from results.plots import SEARCH_FIGURES
    from trainables.exports import load_network

    if run.summary is not None:
        study = run.directory.read_record().resolved_study()
        network = load_network(run.directory.model)
        return _Winner(study.system.make_learner(), network, open_test(run, cache, observer=Notes()), study)
    for name in asked:
        if name not in SEARCH_FIGURES:
            valid = ", ".join(SEARCH_FIGURES)
            raise RunError(f"--only {name}: run {run.name} has not ended, so there is no model yet; valid: {valid}")
    return None


def _of_search(run: Run, asked: Sequence[str]) -> Figures:
    """Figures of the search, of those that are asked for or of all."""
    from results.plots import SEARCH_FIGURES, search_figures

    if asked and not {*asked} & {*SEARCH_FIGURES}:
        return {}
    seen = run.analysis()
    found = search_figures(seen.trials, seen.study, seen.record.budget(), seen.summary)
    if missing := [name for name in asked if name in SEARCH_FIGURES and name not in found]:
        raise RunError(f"--only {missing[0]}: run {run.name}: {_reason(seen, missing[0])}")
    if not asked and not found:
        raise RunError(f"run {run.name}: no trial has reported yet")
    return found


def _reason(seen: Analysis, name: str) -> str:
    """Why one of the search's figures is not there."""
    if not seen.ranking:
        return "no trial has reported yet"
    if name == "comparison":
        return "the search has not ended"
    assert seen.sensitivity.reason is not None, "what has a sensitivity is drawn"
    return seen.sensitivity.reason
