"""What a run will do, decided and checked before any work starts: no ray, and torch only to trace a lens that is not shipped."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from results.run_directory import RunDirectory, default_name, validate_name
from results.run_directory import find as find_run
from search import packing
from search.machine import GIB, Machine, machine
from search.packing import ONE, PackSize
from search.storage.bucket import is_url
from spaces.errors import SpaceError, nearest
from spaces.loading import as_yaml, override
from spaces.study import Budget, Study
from spaces.system import Prepared, Source

if TYPE_CHECKING:
    from search.storage.mirror import Mirror
    from search.warm_start import WarmStart

# Left to the driver and to its trials' processes, which ask Ray for none.
SPARE_CPUS = 1

# What a search of one machine takes of its memory: the driver (0.6) with Ray's own processes and the trials' (0.7), and each training
# worker or renderer (0.4 with a tiny model, 0.2 more for the documents' with its optimizer). Measured in a cgroup, where two lanes
# could not live in 1.7 GiB: every trial's process was killed.
SEARCH_MEMORY, WORKER_MEMORY, PLACE_MEMORY = 1.3 * GIB, 0.6 * GIB, 0.3 * GIB


@dataclass(frozen=True)
class Job:
    """A checked run: the study, the chosen budget, what its data is made of, and where everything goes.

    `budget` is the preset's, with no more trials than a grid has points.
    """

    study: Study
    preset: str
    budget: Budget
    source: Source
    """What the data is made of, such as the lens file."""
    directory: RunDirectory
    resume: bool = False
    changes: tuple[str, ...] = ()
    """Overrides of a resumed run, `KEY=VALUE`."""
    warm_start: WarmStart | None = None
    mirror: Mirror | None = None
    """The run's copy in a bucket, if `directory` is not all that there is of it."""


@dataclass(frozen=True)
class Shape:
    """How many lanes and rendering actors a search starts, and the logical CPUs they ask Ray for together.

    `most_lanes`: as many lanes as there may be once nodes join. `cpus_per_worker`: also its threads. `note`: why there are fewer lanes
    than CPUs would take. `machine`: what the search may use of it. `pack`: how many trials each lane trains at once.
    """

    lanes: int
    most_lanes: int
    cpus_per_worker: int
    render_actors: int
    logical_cpus: int
    note: str | None = None
    machine: Machine | None = None
    pack: PackSize = ONE


def new(
    study: Study,
    space: str,
    preset: str,
    overrides: list[str],
    name: str | None,
    out: Path,
    learn_from: str | None = None,
) -> Job:
    """Plan a new run.

    Args:
        overrides: already part of the study; one of a budget that this run does not have would do nothing.
        learn_from: another run whose trials the sampler shall know.

    Raises:
        SpaceError: unknown preset, an override of another one, bad or missing data, bad or taken name.
    """
    presets = study.presets()
    if preset not in presets:
        raise SpaceError(f"--preset {preset}: space {space} has no such budget; {nearest(preset, list(presets))}")
    for one in overrides:
        section, other = (*one.split("=")[0].split("."), "")[:2]
        if section == "budget" and other not in (preset, ""):
            raise SpaceError(f"--set {one}: this run has the preset {preset}; set budget.{preset}, or --preset {other}")
    directory = RunDirectory(out / validate_name(name if name is not None else default_name(study.space)))
    if directory.record.exists():
        raise SpaceError(
            f"--name {directory.name}: {directory.path} exists; choose another, or --resume {directory.name}"
        )
    preparation = study.system.make_preparation()
    source = preparation.find(study.data)
    _check_compiler(study)
    # As recorded, a study stands alone: no default that may change later, no path relative to today's folder.
    fixed = {name: value for name, value in study.trial({}).model_dump().items() if name not in study.search}
    study = study.model_copy(update={"fixed": fixed, "data": preparation.resolved(study.data, source)})
    earlier = None
    if learn_from is not None:
        learnt_from = find_run(learn_from, out)
        # Reading another run takes Optuna, which a run without it need not import yet.
        from search.warm_start import warm_start

        earlier = warm_start(learnt_from, study)
    return Job(study, preset, _budget(study, preset), source, directory, warm_start=earlier)


def resumed(run: str, out: Path, overrides: list[str]) -> Job:
    """Plan the continuation of a run as it was recorded, with `overrides` of what may change: `RANGES`, `LIMITS` and resources.

    Raises:
        SpaceError: no such run, its record is damaged, what its data is made of has changed, or an override makes another run of it.
    """
    directory = find_run(run, out)
    record = directory.read_record()
    before = record.resolved_study()
    for one in overrides:
        _check_change(one, before, record.preset)
    study = override(copy.deepcopy(record.study), overrides, str(directory.record)) if overrides else before
    changes = tuple(overrides) if study != before else ()  # a command that is started again repeats what it changed
    _check_numbers_stay(study, before, directory.name)
    _check_compiler(study)
    preparation = study.system.make_preparation()
    source = preparation.find(study.data)
    if source.sha256 != record.source.sha256:
        raise SpaceError(
            f"{source.path}: changed since run {directory.name} began; start a new run for the new {study.system.what}"
        )
    study = study.model_copy(update={"data": preparation.resolved(study.data, source)})
    today = preparation.places(study.data, source, study.seed, Path())
    if {name: place.name for name, place in today.items()} != {name: Path(p).name for name, p in record.data.items()}:
        raise SpaceError(
            f"run {directory.name}: its data would be made otherwise today (by this version of psf-search or of what it uses), and "
            f"its trials would not compare with new ones; start a new run that learns from it: --warm-start {directory.name}"
        )
    return Job(study, record.preset, _budget(study, record.preset), source, directory, resume=True, changes=changes)


def _check_numbers_stay(study: Study, before: Study, run: str) -> None:
    """Unfinished trials go on as they began: with their device's random numbers, and compiled or not."""
    for key, now, then in (
        ("gpus_per_worker", study.resources.gpus_per_worker > 0, before.resources.gpus_per_worker > 0),
        ("compile", study.resources.compile, before.resources.compile),
    ):
        if now != then:
            raise SpaceError(
                f"resources.{key}: run {run} began with {getattr(before.resources, key)}, and its unfinished trials would not "
                "go on as they began; start a new run"
            )


def _check_compiler(study: Study) -> None:
    if study.resources.compile and not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        raise SpaceError(
            "resources.compile: torch.compile needs a C++ compiler, and there is none (g++, clang++ or $CXX)"
        )


def _budget(study: Study, preset: str) -> Budget:
    budget = study.presets()[preset]
    if study.sampler != "grid":
        return budget
    points = len(study.first_trials()) + study.grid_size()
    return budget.model_copy(update={"trials": min(budget.trials, points)})


# What a resumed run may change: the values that are still to be drawn, how long it goes on, and on what.
RANGES = ("low", "high", "choices")
LIMITS = ("trials", "max_hours", "target", "least_gain", "finalists", "finalist_seeds", "reference_seeds")


def _check_change(change: str, before: Study, preset: str) -> None:
    match change.partition("=")[0].split("."):
        case ["search", name, key] if name in before.search and key in RANGES:
            return
        case ["budget", name, key] if name == preset and key in LIMITS:
            return
        case ["resources", *_]:
            return
    raise SpaceError(
        f"--set {change}: would make another run of it, start a new one; with --resume may change: "
        f"search.NAME.{{{','.join(RANGES)}}}, budget.{preset}.{{{','.join(LIMITS)}}} and resources, "
        "but not whether on GPUs or compiled"
    )


def check_writable(option: str, directory: Path) -> None:
    """Make a directory if need be, and see that files can be written there.

    Raises:
        SpaceError: they cannot.
    """
    if is_url(str(directory)):
        raise SpaceError(f"{option} {directory}: expected a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except FileExistsError:
        raise SpaceError(f"{option} {directory}: cannot be written to: it is no directory") from None
    except OSError as error:
        raise SpaceError(f"{option} {directory}: cannot be written to: {error.strerror or error}") from None


def fit_machine(study: Study, trials: int) -> Shape:
    """The shape of a search on this machine. Lanes and renderers share its CPUs: lanes wait while the data set renders, and
    a stream renders beside them.

    Raises:
        SpaceError: the machine cannot hold it; says what was asked, and what there is.
    """
    here, need = machine(), study.resources
    cpus, gpus = here.cpus, here.gpus
    even = cpus // (need.lanes * need.workers_per_trial) if need.lanes is not None else 1
    each = need.cpus_per_worker or max(1, even)
    lanes, note = _lanes(study, trials, cpus, each, gpus, "this machine has", here.because), None
    pack = packing.pack(study, trials, lanes)
    if here.memory is not None:
        beside = (here.memory - SEARCH_MEMORY) / lanes - need.workers_per_trial * WORKER_MEMORY
        pack = packing.pack(study, trials, lanes, 1 + max(0, int(beside / PLACE_MEMORY)))
        lane = need.workers_per_trial * WORKER_MEMORY + (pack.places - 1) * PLACE_MEMORY
        fit = int((here.memory - SEARCH_MEMORY) / lane)
        takes = f"each takes about {lane / GIB:.1f} GiB beside {SEARCH_MEMORY / GIB:.1f} GiB for all"
        if fit < (need.lanes or 1):
            packed = f" x pack={pack.places}" if pack.places > 1 else ""
            raise SpaceError(
                f"resources: lanes={need.lanes or 1} x workers_per_trial={need.workers_per_trial}{packed}: {takes}, but only "
                f"{here.memory / GIB:.1f} GiB of memory are free{here.because('memory')}; lower one of them, or free some memory"
            )
        if fit < lanes:
            note = f"{fit} lanes instead of {lanes}: {takes}, and {here.memory / GIB:.1f} GiB of memory are free{here.because('memory')}"
            lanes = fit
    return replace(_shape(study, lanes, lanes, each, _actors(study, cpus)), note=note, machine=here, pack=pack)


def fit_cluster(study: Study, trials: int, cpus: float, gpus: float) -> Shape:
    """The shape of a search on a cluster of so many CPUs and GPUs, where each actor needs a CPU of its own.

    Raises:
        SpaceError: the cluster cannot hold it; says what was asked, and what there is.
    """
    need = study.resources
    left = int(cpus) - SPARE_CPUS - _actors(study, 1)
    each = need.cpus_per_worker or 1
    lanes = _lanes(study, trials, left, each, gpus, f"beside rendering and {SPARE_CPUS} spare CPU the cluster has")
    spare = left + _actors(study, 1) - lanes * need.workers_per_trial * each
    pack = packing.pack(study, trials, lanes)
    most = need.lanes or max(lanes, ceil(trials / pack.places))
    return replace(_shape(study, lanes, most, each, _actors(study, spare)), pack=pack)


def _actors(study: Study, most: int) -> int:
    """Ray actors that make the data, where the system uses any: as asked for, or so many."""
    if not study.data.uses_actors:
        return 0
    return most if study.resources.render_actors is None else study.resources.render_actors


def unused_gpus(study: Study) -> str | None:
    """What to tell somebody whose machine has GPUs that a search leaves alone."""
    gpus = machine().gpus
    if gpus == 0 or study.resources.gpus_per_worker > 0:
        return None
    there, on = ("1 GPU", "it") if gpus == 1 else (f"{gpus} GPUs", "each")
    return (
        f"this machine has {there} that the search does not use; "
        f"--set resources.gpus_per_worker=0.25 puts four lanes on {on}"
    )


def _lanes(
    study: Study,
    trials: int,
    cpus: int,
    each_cpus: int,
    gpus: float,
    owner: str,
    because: Callable[[str], str] = lambda kind: "",
) -> int:
    """Lanes as asked for, or as many as fit and have a trial to train."""
    need = study.resources
    kinds = (("cpus", each_cpus, cpus), ("gpus", need.gpus_per_worker, gpus))
    filled = ceil(trials / (1 if need.pack == "auto" else need.pack))
    lanes = need.lanes or max(
        1, min(filled, *(int(there / (need.workers_per_trial * each)) for _, each, there in kinds if each))
    )
    shape = f"lanes={lanes} x workers_per_trial={need.workers_per_trial}"
    for kind, each, there in kinds:
        wanted = lanes * need.workers_per_trial * each
        if wanted > there:
            raise SpaceError(
                f"resources: {shape} x {kind}_per_worker={each} asks for {wanted:g} {kind[:-1].upper()}s, "
                f"{owner} {there:g}{because(kind)}; lower one of them with --set resources.KEY=VALUE"
            )
    return lanes


def _shape(study: Study, lanes: int, most: int, each_cpus: int, render_actors: int) -> Shape:
    if study.data.streams and render_actors == 0:
        raise SpaceError("resources.render_actors: data that is made while trials train needs at least 1, but got 0")
    training = lanes * study.resources.workers_per_trial * each_cpus
    return Shape(lanes, most, each_cpus, render_actors, training + render_actors + SPARE_CPUS)


def places(job: Job, cache: Path) -> dict[str, Path]:
    """Where the data sets of a run lie, or will."""
    return job.study.system.make_preparation().places(job.study.data, job.source, job.study.seed, cache)


def is_prepared(job: Job, cache: Path) -> bool:
    """Whether the data sets are there."""
    return all(place.is_dir() for place in places(job, cache).values())


def prepare_here(job: Job, cache: Path) -> Prepared:
    """Make the data sets of a run in this process.

    Raises:
        SpaceError: a file is damaged.
    """
    return job.study.system.make_preparation().prepare(job.study.data, job.source, job.study.seed, cache, actors=0)


def describe(job: Job, shape: Shape | None) -> str:
    """The resolved configuration, what its data is and an estimate of the work, for `--dry-run`."""
    budget = job.budget
    made_of = job.study.system.make_preparation().describe(job.study.data, job.source)
    most = budget.trials * budget.steps
    finals = final_steps(budget)
    least = expected_steps(budget, job.study.scheduler)
    stopping = {
        "asha": f"rungs {budget.rungs()}, one in {budget.reduction_factor} goes on",
        "median": f"stopped from step {budget.grace_steps} on if worse than the median",
        "none": "none is stopped early",
    }[job.study.scheduler]
    need = job.study.resources
    lanes = "the cluster's lanes" if shape is None else f"{shape.lanes} lane{'s' * (shape.lanes > 1)}"
    cpus = (need.cpus_per_worker or 1) if shape is None else shape.cpus_per_worker
    gpus = f" and {need.gpus_per_worker:g} GPU" if need.gpus_per_worker else ""
    return "\n".join(
        (
            as_yaml(job.study.model_dump(mode="json", exclude_none=True)),
            *(f"{heading:10} {line}" for heading, line in made_of.items()),
            *([f"preset     {job.preset} sets {values}"] if (values := _set(budget)) else []),
            f"search     preset {job.preset}: {budget.trials} trials of up to {budget.steps} steps, {stopping}",
            f"work       {f'{least:,} to ' if least < most else ''}{most:,} optimizer steps"
            f"{f' and up to {finals:,} of the finals' if finals else ''} on "
            f"{lanes} of {need.workers_per_trial} worker{'s, each' * (need.workers_per_trial > 1)} on {cpus} CPU{'s' * (cpus > 1)}{gpus}",
            f"pack       {packing.pack(job.study, budget.trials) if shape is None else shape.pack}",
            *([f"machine    {shape.machine}"] if shape is not None and shape.machine is not None else []),
            *([f"memory     {shape.note}"] if shape is not None and shape.note is not None else []),
            f"run        {job.directory.path}",
        )
    )


def _set(budget: Budget) -> str:
    """What a preset sets in its space, as `key.path=value`."""
    return ", ".join(f"{key}={value}" for key, value in budget.set.items())


def expected_steps(budget: Budget, scheduler: str) -> int:
    """Fewest optimizer steps to expect. ASHA: exactly one in `reduction_factor` trials passes each rung."""
    if scheduler != "asha":
        return budget.trials * (budget.grace_steps if scheduler == "median" else budget.steps)
    total, reach, before = 0.0, float(budget.trials), 0
    for step in [*budget.rungs(), budget.steps]:
        total += reach * (step - before)
        reach, before = max(1.0, reach / budget.reduction_factor), step
    return round(total)


def final_steps(budget: Budget) -> int:
    """Optimizer steps of the finals at most, the reference included, of which the search's own training counts as one."""
    finalists = min(budget.finalists, budget.trials - 1)
    compared = min(budget.finalist_seeds, budget.reference_seeds) - 1
    return (finalists * budget.finalist_seeds + compared) * budget.steps if budget.finalists else 0
