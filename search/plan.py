"""What a run will do, decided and checked before any work starts: no ray, no torch, done in well under a second."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, replace
from pathlib import Path

from ruamel.yaml import YAML

from deeplens_workers.lens_file import LensFile, find_lens
from results.run_directory import RunDirectory, default_name, validate_name
from results.run_directory import find as find_run
from spaces.loading import SpaceError, nearest
from spaces.study import Budget, Study


@dataclass(frozen=True)
class Job:
    """A checked run: the study, the chosen budget, the lens file and where everything goes."""

    study: Study
    preset: str
    budget: Budget
    lens: LensFile
    directory: RunDirectory
    resume: bool = False

    @property
    def lanes(self) -> int:
        return self.study.resources.lanes or default_lanes(self.study)

    @property
    def render_actors(self) -> int:
        actors = self.study.resources.render_actors
        return os.cpu_count() or 1 if actors is None else actors


def new(study: Study, source: str, preset: str, name: str | None, out: Path) -> Job:
    """Plan a new run.

    Raises:
        SpaceError: unknown preset, bad lens, bad or taken name.
    """
    presets = [str(known) for known in study.budget]
    if preset not in presets:
        raise SpaceError(f"--preset {preset}: {source} has no such budget; {nearest(preset, presets)}")
    directory = RunDirectory(out / validate_name(name if name is not None else default_name(study.space)))
    if directory.record.exists():
        raise SpaceError(
            f"--name {directory.name}: {directory.path} exists; choose another, or --resume {directory.name}"
        )
    budget = {str(known): value for known, value in study.budget.items()}[preset]
    return Job(study, preset, budget, find_lens(study.data.lens), directory)


def resumed(run: str, out: Path, *, trials: int | None) -> Job:
    """Plan the continuation of a run as it was recorded, with more trials if asked.

    Raises:
        SpaceError: no such run, its record is damaged, or its lens file has changed.
    """
    directory = find_run(run, out)
    record = directory.read_record()
    study = record.resolved_study()
    budget = {str(known): value for known, value in study.budget.items()}[record.preset]
    if trials is not None:
        budget = budget.model_copy(update={"trials": trials})
    lens = find_lens(study.data.lens)
    if lens.sha256 != record.lens.sha256:
        raise SpaceError(f"{lens.path}: changed since run {directory.name} began; start a new run for the new lens")
    return replace(Job(study, record.preset, budget, lens, directory), resume=True)


def machine() -> tuple[int, int]:
    """CPUs and GPUs of this machine."""
    return os.cpu_count() or 1, len(glob.glob("/dev/nvidia[0-9]*"))


def default_lanes(study: Study) -> int:
    """As many lanes as the CPUs (and GPUs, where asked for) hold, at least one."""
    cpus, gpus = machine()
    need = study.resources
    lanes = cpus // (need.workers_per_trial * need.cpus_per_worker)
    if need.gpus_per_worker:
        lanes = min(lanes, int(gpus / (need.workers_per_trial * need.gpus_per_worker)))
    return max(1, lanes)


def check_machine(study: Study) -> None:
    """Refuse a shape this machine cannot hold.

    Raises:
        SpaceError: says what was asked, and what there is.
    """
    check_fits(study, *machine(), "this machine has")


def check_fits(study: Study, cpus: float, gpus: float, owner: str) -> None:
    """Refuse a shape that does not fit so many CPUs and GPUs.

    Raises:
        SpaceError: says what was asked, and what there is.
    """
    need = study.resources
    lanes = need.lanes or 1
    shape = f"lanes={lanes} x workers_per_trial={need.workers_per_trial}"
    for kind, each, there in (("cpus", need.cpus_per_worker, cpus), ("gpus", need.gpus_per_worker, gpus)):
        wanted = lanes * need.workers_per_trial * each
        if wanted > there:
            raise SpaceError(
                f"resources: {shape} x {kind}_per_worker={each} asks for {wanted:g} {kind[:-1].upper()}s, "
                f"{owner} {there:g}; lower one of them with --set resources.KEY=VALUE"
            )


def describe(job: Job) -> str:
    """The resolved configuration, what there is to render and an estimate of the work, for `--dry-run`."""
    from io import StringIO

    text = StringIO()
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 120
    yaml.dump(job.study.model_dump(mode="json", exclude_unset=True), text)
    data, budget = job.study.data, job.budget
    counts = ", ".join(f"{count} {name}" for name, count in data.kernels().items())
    return "\n".join(
        (
            text.getvalue(),
            f"lens       {job.lens.path} (sha256 {job.lens.sha256[:12]})",
            f"data set   {counts} positions x {len(data.wavelengths_um)} wavelengths, {data.rays_total():.3g} rays "
            "(those already in the cache are not traced again)",
            f"search     preset {job.preset}: {budget.trials} trials of up to {budget.steps} steps, "
            f"rungs {budget.rungs()}, one in {budget.reduction_factor} goes on",
            f"work       {expected_steps(budget):,} to {budget.trials * budget.steps:,} optimizer steps on "
            f"{job.lanes} lanes of {job.study.resources.workers_per_trial} workers",
            f"run        {job.directory.path}",
        )
    )


def expected_steps(budget: Budget) -> int:
    """Optimizer steps if exactly one in `reduction_factor` trials passes each rung."""
    total, reach, before = 0.0, float(budget.trials), 0
    for step in [*budget.rungs(), budget.steps]:
        total += reach * (step - before)
        reach, before = max(1.0, reach / budget.reduction_factor), step
    return round(total)
