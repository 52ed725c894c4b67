"""Command line: `psf-search run|doctor|sensitivity|analyze|report|figures|export|render|lens|make-unit|fit-unit|sample-units|cache|cluster`,
`python search/run.py`, `tune analyze`.

Exit codes: 0 done, 1 failed, 2 bad input (before any work starts), 129, 130 and 143 interrupted by SIGHUP, SIGINT and SIGTERM.
Nothing heavy is imported before the input has been found good.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from results.run_directory import ROOT, RunError
from search import plan
from search.analyze_command import analyze
from search.api import CACHE, as_settings, check_places, plan_search, refuse_twice, refuse_with_resume
from search.cache_command import app as cache_app
from search.cluster_command import app as cluster_app
from search.doctor_command import doctor
from search.export_command import export
from search.figures_command import figures
from search.home import find_caches
from search.interruption import interruptible
from search.lens_command import lens
from search.make_unit_command import make_unit
from search.options import DIRECTORY, LensOption, OverridesOption, RunsRoot, seed_option
from search.render_command import render
from search.report_command import report
from search.storage.place import Place
from search.tracking.trackers import check_trackers
from search.unit_commands import fit_unit, sample_units
from spaces.disk import full_disk
from spaces.errors import SpaceError
from spaces.loading import available, load
from spaces.study import MIN_TRIALS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(cache_app, name="cache")
app.add_typer(cluster_app, name="cluster")
app.command()(doctor)
app.command()(analyze)
app.command()(report)
app.command()(figures)
app.command()(export)
app.command()(render)
app.command()(lens)
app.command()(make_unit)
app.command()(fit_unit)
app.command()(sample_units)


def _print_version(asked: bool) -> None:
    if asked:
        print(version("psf-search"))
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and stop.")
    ] = False,
) -> None:
    """Search the hyperparameters of VAEs of optical point spread functions."""


PresetOption = Annotated[
    str | None, typer.Option(help="Budget of the space: quick, standard or full.", show_default="standard")
]
SeedOption = Annotated[int | None, seed_option("Seed of everything random.")]
NameOption = Annotated[str | None, typer.Option(help="Name of the run; default: space and time.")]
CacheOption = Annotated[
    str,
    typer.Option(metavar=DIRECTORY, help="Prepared data; on a cluster a directory of shared storage."),
]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster to join; default: start Ray here.")]
DashboardOption = Annotated[bool, typer.Option("--dashboard", help="Start the Ray dashboard on localhost.")]
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", metavar="TRACKER", help="Tell wandb or mlflow of the search, too.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and stop.")]


@app.command()
def run(
    space: Annotated[str | None, typer.Option(help="Space to search: a shipped name or a YAML file.")] = None,
    preset: PresetOption = None,
    overrides: OverridesOption = None,
    lens: LensOption = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials, in place of the preset's.")] = None,
    max_hours: Annotated[float | None, typer.Option(help="Hours after which no more trials are trained.")] = None,
    target: Annotated[float | None, typer.Option(help="Objective of a finished trial that ends the search.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="auto, tpe, random, sobol, gp, cmaes, nsga2, grid; default: the space's.")
    ] = None,
    scheduler: Annotated[str | None, typer.Option(help="asha, median or none; default: the space's.")] = None,
    warm_start: Annotated[
        str | None, typer.Option(metavar="RUN", help="Another run, whose trials the sampler learns from.")
    ] = None,
    seed: SeedOption = None,
    name: NameOption = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
    resume_or_start: Annotated[
        bool, typer.Option("--resume-or-start", help="Go on with the run of --name if it is there, else start it.")
    ] = False,
    out: RunsRoot = str(ROOT),
    cache: CacheOption = str(CACHE),
    address: AddressOption = None,
    dashboard: DashboardOption = False,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    list_spaces: Annotated[bool, typer.Option("--list-spaces", help="List the shipped spaces, and stop.")] = False,
) -> None:
    """Prepare the data, search, compare the winner at the sealed test set, export it."""
    console = Console(markup=False)
    if list_spaces:
        for shipped in available():
            console.print(f"{shipped:16} {load(shipped).description}", highlight=False)
        return
    studies = {"data.lens": lens, "seed": seed, "sampler": sampler, "scheduler": scheduler}
    studies = {key: value for key, value in studies.items() if value is not None}
    limits = {"trials": trials, "max_hours": max_hours, "target": target}
    given = [*studies, *(key for key, value in limits.items() if value is not None)]
    refuse_twice(overrides or [], {key: f"--{key.removeprefix('data.').replace('_', '-')}" for key in given})
    if resume is not None:
        refuse_with_resume(f"--{key.removeprefix('data.')}" for key in studies)
    job = plan_search(
        space,
        preset=preset,
        overrides=[*(overrides or []), *as_settings(studies)],
        limits=limits,
        name=name,
        resume=resume,
        resume_or_start=resume_or_start,
        warm_start=warm_start,
        out=out,
    )
    sys.exit(_start(job, cache, address, dashboard, dry_run, track or ()))


@app.command()
def sensitivity(
    space: Annotated[str | None, typer.Option(help="Space to explore: a shipped name or a YAML file.")] = None,
    preset: PresetOption = None,
    overrides: OverridesOption = None,
    lens: LensOption = None,
    trials: Annotated[int, typer.Option(min=MIN_TRIALS, help="Points of the design, each trained to the end.")] = 32,
    seed: SeedOption = None,
    name: NameOption = None,
    out: RunsRoot = str(ROOT),
    cache: CacheOption = str(CACHE),
    address: AddressOption = None,
    dashboard: DashboardOption = False,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """How much it matters to choose each hyperparameter well, by trials spread evenly over the space, none stopped early.

    A run like any other, but that nothing is trained again for finals: `psf-search run --resume` goes on with it, `psf-search analyze` shows it again.
    """
    design = {"sampler": "sobol", "scheduler": "none", "points_to_evaluate": []}
    asked = {"data.lens": lens, "seed": seed}
    given = [key for key, value in asked.items() if value is not None]
    refuse_twice(overrides or [], {"trials": "--trials", **{key: f"--{key.removeprefix('data.')}" for key in given}})
    job = plan_search(
        space,
        preset=preset,
        overrides=[
            *(overrides or []),
            *as_settings({key: value for key, value in asked.items() if value is not None} | design),
        ],
        limits={"trials": trials, "finalists": 0},
        name=name,
        out=out,
    )
    code = _start(job, cache, address, dashboard, dry_run, track or ())
    if code == 0 and not dry_run:
        from results.analysis import analyze as read
        from results.sensitivity import sentences

        found = read(job.directory)
        Console(markup=False).print("\n".join(["", *sentences(found.sensitivity, found.title)]), highlight=False)
    sys.exit(code)


def _start(job: plan.Job, cache: str, address: str | None, dashboard: bool, dry_run: bool, track: Sequence[str]) -> int:
    """Run a planned search in the terminal, or say what it would do; returns the exit code."""
    check_trackers(track)
    console = Console(markup=False)
    shape = plan.fit_machine(job.study, job.budget.trials) if address is None else None
    if dry_run:
        console.print(plan.describe(job, shape), highlight=False, soft_wrap=True)
        console.print(f"time       {_time(job, shape, Place.of_data(cache).path)}", highlight=False, soft_wrap=True)
        return 0
    check_places(job, cache, address)
    # What it takes to show a search, such as tables, is loaded once the input has been found good.
    from search.terminal import run_in_terminal

    return run_in_terminal(job, cache=cache, address=address, dashboard=dashboard, track=track)


def _time(job: plan.Job, shape: plan.Shape | None, cache: Path) -> str:
    """How long a search would take, measured where its data is there already or made without Ray."""
    if shape is None or job.study.resources.gpus_per_worker:
        return "estimated only for the CPUs of this machine"
    there = plan.is_prepared(job, cache)
    if job.study.data.uses_actors and not there:
        return "estimated once the data is there, after a first search or a part of it"
    from search.estimate import estimate

    if there:
        return str(estimate(job, shape, cache))
    with tempfile.TemporaryDirectory() as aside:  # data of files that are there takes seconds
        plan.prepare_here(job, Path(aside))
        return str(estimate(job, shape, Path(aside)))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with one of the module's codes."""
    with interruptible() as interruption:
        try:
            sys.exit(_run(arguments if arguments is not None else sys.argv[1:]))
        except BaseException:
            if interruption.number is None:
                raise
            print("psf-search: interrupted", file=sys.stderr)
            sys.exit(interruption.exit_code)


def _run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    find_caches(lambda line: print(line, file=sys.stderr))  # before any command imports what has caches
    try:
        code = app(args=arguments, prog_name="psf-search", standalone_mode=False)
    except TyperException as error:  # an option that there is not, or a value it does not take
        if message := error.format_message():  # else the help was asked for by saying nothing
            print(f"psf-search: {message}", file=sys.stderr)
        return error.exit_code
    except typer.Abort:
        return 1
    except SpaceError as error:
        print(f"psf-search: {error}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    except MemoryError as error:
        print(f"psf-search: not enough memory: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if (full := full_disk(error)) is None:
            raise
        print(f"psf-search: {full}", file=sys.stderr)
        return 1
    return code if isinstance(code, int) else 0  # our commands return nothing


if __name__ == "__main__":
    main()
