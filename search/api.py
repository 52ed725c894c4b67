"""Searches from Python: `run_search` plans and runs one, and the command line is made of the same two steps.

    from search import run_search

    run = run_search("cvae_psf", preset="quick", overrides={"search.kl_weight.high": 1e-2}, name="mine")
    run.best.params, run.trials_dataframe(), run.model()

Nothing here prints, touches signals or the process' files: `observer` hears what there is to say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results.run import Run, open_run
from results.run_directory import ROOT, validate_name
from search import plan
from search.address import check_reachable
from search.home import find_caches
from search.observer import Observer
from search.plan import Job
from search.storage.place import Kept, Place
from search.tracking.trackers import check_trackers
from spaces import store
from spaces.errors import SpaceError
from spaces.loading import available, choose_preset, override, read

CACHE = Path("results/cache")
PRESET = "standard"


def run_search(
    space: str | None = None,
    *,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    name: str | None = None,
    resume: str | None = None,
    resume_or_start: bool = False,
    warm_start: str | None = None,
    out: str | Path = ROOT,
    cache: str | Path = CACHE,
    address: str | None = None,
    track: Sequence[str] = (),
    observer: Observer | None = None,
) -> Run:
    """Run a search to its end, or go on with an interrupted one.

    A Ray that the process has joined already is used and left running; else one is started here, or `address` is joined.

    Args:
        space: a shipped space's name, or a YAML file.
        preset: quick, standard (unless given) or full.
        overrides: of any key of the space, `{"search.kl_weight.high": 1e-2}`.
        name: of the run; the space and the time unless given.
        resume: name or directory of a run to go on with, in place of a space.
        resume_or_start: go on with the run `name` if it is there, else start it; for schedulers, which start a command again.
        warm_start: another run, whose trials the sampler learns from.
        out: directory of the runs, or `s3://BUCKET/PREFIX` that has their copies.
        cache: directory of prepared data, or `s3://BUCKET/PREFIX` that has copies of it.
        address: of a Ray cluster to join.
        track: trackers that hear of it, "wandb" and "mlflow".
        observer: hears of the course; `search.display.Display` shows it.

    Raises:
        SpaceError: bad input, before any work starts.
        KeyboardInterrupt: as it comes; every reported result is saved, and `resume` goes on.
    """
    job = plan_search(
        space,
        preset=preset,
        overrides=as_settings(overrides or {}),
        name=name,
        resume=resume,
        resume_or_start=resume_or_start,
        warm_start=warm_start,
        out=out,
    )
    check_trackers(track)
    check_places(job, cache, address)
    execute(job, cache=cache, address=address, track=track, observer=observer)
    return open_run(job.directory.path)


def plan_search(
    space: str | None = None,
    *,
    preset: str | None = None,
    overrides: Iterable[str] = (),
    limits: Mapping[str, Any] | None = None,
    name: str | None = None,
    resume: str | None = None,
    resume_or_start: bool = False,
    warm_start: str | None = None,
    out: str | Path = ROOT,
) -> Job:
    """Check a search without starting anything. A lens that is not shipped is traced, which takes about 5 s.

    Args:
        overrides: `KEY=VALUE`.
        limits: of the preset's budget, by key.

    Raises:
        SpaceError: one line for the user.
    """
    find_caches(lambda line: print(line, file=sys.stderr))  # before a lens that has to be tried
    settings, place = list(overrides), Place.of_runs(out)
    if resume_or_start and (there := _started(name, resume, space, preset, place)) is not None:
        lasting = [one for one in settings if one.startswith("resources.")]  # the rest is the start's, and recorded
        return _resumed(there, place, lasting, limits)
    if resume is not None:
        new = {"--space": space, "--name": name, "--preset": preset, "--warm-start": warm_start}
        refuse_with_resume(option for option, value in new.items() if value is not None)
        return _resumed(place.find(resume), place, settings, limits)
    if space is None:
        raise SpaceError(f"--space: missing; valid: {', '.join(available())}, or a YAML file")
    chosen = preset or PRESET
    tree, where = read(space)
    by_preset = choose_preset(tree, chosen, where)
    if given := [one for one in settings if re.match(r"budget\.\w+\.set\b", one)]:
        raise SpaceError(
            f"--set {given[0]}: is what a space file sets for a preset; give the keys themselves, each with --set"
        )
    presets = tree.get("budget")
    if not isinstance(presets, dict) or chosen in presets:  # else it is told as such, not as an override of it
        settings += _of_budget(chosen, limits)
    learn_from = None if warm_start is None else str(place.find(warm_start).directory.path)
    job = plan.new(override(tree, settings, where, by_preset), space, chosen, settings, name, place.path, learn_from)
    return replace(job, mirror=place.free(job.directory.name))


def _resumed(run: Kept, out: Place, settings: list[str], limits: Mapping[str, Any] | None) -> Job:
    chosen = run.directory.read_record().preset
    job = plan.resumed(str(run.directory.path), out.path, settings + _of_budget(chosen, limits))
    return replace(job, mirror=run.mirror)


def _started(name: str | None, resume: str | None, space: str | None, preset: str | None, out: Place) -> Kept | None:
    """The run of `resume_or_start`, if it is there.

    Raises:
        SpaceError: no name to know it by, or the run of that name searches something else.
    """
    if resume is not None:
        raise SpaceError("--resume-or-start: goes with --name, not with --resume")
    if name is None:
        raise SpaceError("--resume-or-start: needs --name, by which the run is known when it is started again")
    if (there := out.named(validate_name(name))) is None:
        return None
    record = there.directory.read_record()
    chosen = preset or PRESET
    asked = record.study["space"] if space is None else read(space)[0].get("space")
    if (asked, chosen) != (record.study["space"], record.preset):
        raise SpaceError(
            f"--name {name}: {there} searches {record.study['space']} with the preset {record.preset}, not {asked} with "
            f"{chosen}; choose another name"
        )
    return there


def refuse_with_resume(options: Iterable[str]) -> None:
    """Raises SpaceError if there are any: they go with a new run."""
    for option in options:
        raise SpaceError(f"{option}: goes with a new run, not with --resume, which keeps the run's own")


def refuse_twice(settings: Iterable[str], options: Mapping[str, str]) -> None:
    """Raises SpaceError if a `--set KEY=VALUE` is what an option says, too; `options` are those given, by key, without the budget's name."""
    for one in settings:
        key = re.sub(r"^budget\.[^.]+\.", "", one.partition("=")[0].strip())
        if key in options:
            raise SpaceError(f"--set {one}: {options[key]} says that already; give one of the two")


def check_places(job: Job, cache: str | Path, address: str | None) -> None:
    """See that a planned search can write where it has to, and that its cluster answers.

    Raises:
        SpaceError: it cannot, or does not.
    """
    data = Place.of_data(cache)
    runs = Place(job.directory.path.parent, None if job.mirror is None else job.mirror.bucket.parent)
    for option, place in (("--out", runs), ("--cache", data)):
        if place.bucket is not None and address is not None:
            raise SpaceError(
                f"{option} {place}: goes with a search on one machine, whose directories are copied there; on a cluster name a directory "
                "that all nodes share, or leave --address out"
            )
    for option, place in (("--out", runs), ("--cache", data)):
        plan.check_writable(option, place.path)
        place.check(option)
    if address is not None:
        check_reachable(address)


def execute(
    job: Job,
    *,
    cache: str | Path = CACHE,
    address: str | None = None,
    dashboard: bool = False,
    track: Sequence[str] = (),
    observer: Observer | None = None,
) -> None:
    """Run a planned search to its end.

    Raises:
        SpaceError: the run is in use or damaged, or the cluster cannot hold its shape.
    """
    from search.driver import run  # which takes Ray, that planning does without

    run(
        job,
        cache=Place.of_data(cache),
        address=address,
        dashboard=dashboard,
        track=track,
        observer=observer or Observer(),
    )


def open_test(run: Run, cache: str | Path | None = None, *, observer: Observer | None = None) -> Any:
    """The sealed test set of a run, as its system's learner opens it; else as `sets_of`."""
    learner = run.directory.read_record().resolved_study().system.make_learner()
    return learner.open_test(sets_of(run, cache, observer=observer))


def sets_of(run: Run, cache: str | Path | None = None, *, observer: Observer | None = None) -> dict[str, str]:
    """The data sets of a run, prepared again if they are not there any more.

    Args:
        cache: directory of prepared data; the run's own unless given.
        observer: is told if the data is made again, which of PSFs takes a while in this one process.

    Raises:
        SpaceError: the data cannot be made again as it was.
    """
    record = run.directory.read_record()
    places = {name: Path(place) for name, place in record.data.items()}
    if cache is not None:  # entries have the same names there, of what determines them
        places = {name: Path(cache).resolve() / place.name for name, place in places.items()}
    for place in places.values():
        store.drop_if_corrupt(place)
    if all(place.is_dir() for place in places.values()):
        return {name: str(place) for name, place in places.items()}
    job, there = plan.resumed(str(run.path), ROOT, []), places["test"].parent
    plan.check_writable("--cache", there)
    (observer or Observer()).note(f"preparing the data of run {run.name} again")
    return plan.prepare_here(job, there).sets


def _of_budget(preset: str, limits: Mapping[str, Any] | None) -> list[str]:
    return [f"budget.{preset}.{key}={value}" for key, value in (limits or {}).items() if value is not None]


def as_settings(overrides: Mapping[str, Any]) -> list[str]:
    """`KEY=VALUE` of each key and value; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
