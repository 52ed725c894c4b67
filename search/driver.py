"""One search from start to end: lanes warm up while the data set renders, Tune runs the trials, the winner is judged."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
import ray
from rich.console import Console

from deeplens_workers.dataset import PsfDataset, render_dataset
from results.run_directory import ROOT, LensRecord, RunRecord
from search.display import Display
from search.plan import Job, check_fits
from search.searcher import StudySearcher, requeue
from spaces.seeding import named_seed
from spaces.study import Scalar
from trainables.lane import Lanes, ray_environment
from trainables.work import train_assignment

logger = logging.getLogger(__name__)

# Room for the trials' bookkeeping requests beside the workers' CPUs.
SPARE_CPUS = 1
TRIAL_RETRIES = 2
PACKAGES = ("psf-search", "deeplens-core", "optuna", "ray", "torch")


class Interrupted(BaseException):
    """A signal asked the search to end; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        self.number = number


def run_search(job: Job, *, cache: Path, address: str | None, dashboard: bool, console: Console) -> int:
    """Run or go on with a search; returns the exit code (0, 130 or 143).

    Raises:
        SpaceError: the run is in use, or the cluster cannot hold its shape.
    """
    began = time.monotonic()
    directory = job.directory
    with directory.lock(), _signals():
        _record_start(job)
        _log_to(directory.logs)
        display = Display(
            job.study, trials=job.budget.trials, steps=job.budget.steps, lanes=job.lanes, console=console
        )
        try:
            with display:
                display.note("starting Ray")
                _start_ray(job, address, dashboard, console)
                data, study = _search(job, cache, display)
                display.note("judging the winner at the sealed test positions")
                from search.finish import finish

                outcome = finish(job, study, data, seconds=time.monotonic() - began)
            console.print(outcome)
            return 0
        except Interrupted as interrupted:
            console.print(
                f"interrupted; every reported result is saved. Go on with:\n  {_resume_command(job)}",
                highlight=False,
                soft_wrap=True,
            )
            return 128 + interrupted.number
        finally:
            ray.shutdown()


def _search(job: Job, cache: Path, display: Display) -> tuple[PsfDataset, optuna.Study]:
    study_config, resources = job.study, job.study.resources
    with Lanes(
        train_assignment,
        lanes=job.lanes,
        workers=resources.workers_per_trial,
        cpus=resources.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        storage=job.directory.path / "train",
    ) as lanes:
        data = render_dataset(
            study_config.data, study_config.seed, cache, actors=job.render_actors, progress=display.rendered
        )
        for warning in data.warnings:
            display.warn(warning)
        display.note("waiting for the lanes")
        lanes.wait_ready()
        study = open_study(job)
        try:
            _tune(job, study, data, lanes, display)
        finally:
            requeue(study)
        return data, study


def open_study(job: Job) -> optuna.Study:
    """The run's Optuna study, made on first use with the documents' values as its first trial."""
    config = job.study
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    study = optuna.create_study(
        storage=job.directory.storage_url,
        study_name=job.directory.name,
        direction="minimize" if config.objective.mode == "min" else "maximize",
        sampler=optuna.samplers.TPESampler(seed=named_seed(config.seed, "sampler") % 2**32),
        load_if_exists=True,
    )
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(config.recommended())
    return study


def _tune(job: Job, study: optuna.Study, data: PsfDataset, lanes: Lanes, display: Display) -> None:
    from ray import tune

    from search.asha import Asha, Rungs
    from search.trial import TRIAL_CPUS, FreeLane, run_trial

    budget, objective = job.budget, job.study.objective
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    remaining = budget.trials - len(finished)
    display.search_started(ended_before=len(finished))
    if remaining <= 0:
        return
    rungs = Rungs(budget.rungs(), budget.reduction_factor, objective.mode, exempt=(0,))
    for trial in study.get_trials(deepcopy=False):
        for step, value in trial.intermediate_values.items():
            rungs.record(trial.number, step, value)
    searcher = StudySearcher(study, job.study, budget.steps, _payload(job, data), display)
    tuner = tune.Tuner(
        tune.with_resources(run_trial, {"CPU": TRIAL_CPUS}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=Asha(rungs, objective.metric),
            num_samples=remaining,
            max_concurrent_trials=job.lanes,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(job.directory.path.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
            callbacks=[FreeLane(lanes.board)],
        ),
    )
    tuner.fit()


def _payload(job: Job, data: PsfDataset) -> Any:
    """(number, params) -> what a lane is asked to train, JSON-able."""
    directory, config, budget = job.directory, job.study, job.budget

    def payload(number: int, params: dict[str, Scalar]) -> dict[str, Any]:
        return {
            "model": config.model,
            "trial": config.trial(params).model_dump(mode="json"),
            "params": params,
            "seed": named_seed(config.seed, "trial", number),
            "steps": budget.steps,
            "report_steps": budget.report_steps(),
            "objective": config.objective.model_dump(),
            "directory": str(directory.trial(number).resolve()),
            "events": str(directory.events(number).resolve()),
            "data": {"train": str(data.train), "validation": str(data.validation)},
        }

    return payload


def _start_ray(job: Job, address: str | None, dashboard: bool, console: Console) -> None:
    os.environ.update(ray_environment())
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    namespace = f"psf-search-{job.directory.name}"
    if address is not None:
        ray.init(address=address, namespace=namespace, **quiet)
        there = ray.cluster_resources()
        check_fits(job.study, there.get("CPU", 0) - SPARE_CPUS, there.get("GPU", 0), "the cluster has")
        return
    need = job.study.resources
    training = job.lanes * need.workers_per_trial * need.cpus_per_worker
    context = ray.init(
        # Logical CPUs: lanes and renderers may overlap while the data set renders, and trials need a little.
        num_cpus=training + job.render_actors + SPARE_CPUS,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
        namespace=namespace,
        **quiet,
    )
    if dashboard:
        console.print(f"Ray dashboard: http://{context.dashboard_url}", highlight=False)


def _record_start(job: Job) -> None:
    if job.resume:
        return
    record = RunRecord(
        name=job.directory.name,
        space=job.study.space,
        preset=job.preset,
        seed=job.study.seed,
        started=datetime.now().astimezone(),
        command=tuple(sys.argv),
        study=job.study.model_dump(mode="json", exclude_unset=True),
        lens=LensRecord(name=job.lens.name, sha256=job.lens.sha256),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    )
    job.directory.create(record)


def _resume_command(job: Job) -> str:
    root = job.directory.path.parent
    out = ["--out", str(root)] if root != ROOT else []
    return shlex.join(["psf-search", "run", "--resume", job.directory.name, *out])


def _log_to(logs: Path) -> None:
    """Everything the libraries say goes to one file; the terminal is for the search."""
    logs.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(logs / "driver.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name in ("ray", "ray.tune", "ray.train", "ray.data", "optuna"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


@contextmanager
def _signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the search through `Interrupted`; a second one is not waited for."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        raise Interrupted(number)

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
