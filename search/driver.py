"""One search from start to end: lanes warm up while the data set renders, Tune runs the trials, the winner is judged."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import optuna
import ray
from rich.console import Console

from deeplens_workers.cache import key
from deeplens_workers.dataset import PsfDataset, render_dataset, requests
from results.run_directory import ROOT, DataSets, LensRecord, RunRecord
from search.display import Display
from search.plan import Job, check_fits
from search.searcher import StudySearcher, requeue
from spaces.loading import SpaceError
from spaces.seeding import named_seed
from trainables.lane import Lanes, ray_environment, training

logger = logging.getLogger(__name__)

# Room for the trials' bookkeeping requests beside the workers' CPUs.
SPARE_CPUS = 1
TRIAL_RETRIES = 2
PACKAGES = ("psf-search", "deeplens-core", "optuna", "ray", "torch")
# A failed trial reports no objective; metrics and logs have their own places; signals are the driver's.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class Interrupted(BaseException):
    """Raised where the search is when a signal asks it to end."""


@dataclass
class Interruption:
    """Which signal, if any, has asked the search to end."""

    number: int | None = None


def run_search(job: Job, *, cache: Path, address: str | None, dashboard: bool) -> int:
    """Run or go on with a search; returns the exit code: 0, 1 (failed), 130 or 143 (interrupted).

    Raises:
        SpaceError: the run is in use, or the cluster cannot hold its shape.
    """
    began = time.monotonic()
    directory = job.directory
    with (
        directory.lock(),
        _signals() as interruption,
        _library_output_to(directory.logs / "driver.log") as terminal,
    ):
        console = Console(file=terminal)
        try:
            _record_start(job, cache)
            with Display(
                job.study, trials=job.budget.trials, steps=job.budget.steps, lanes=job.lanes, console=console
            ) as display:
                display.note("starting Ray")
                _start_ray(job, address, dashboard, display)
                data = _search(job, cache, display)
                display.note("judging the winner at the sealed test positions")
                from search.finish import finish

                outcome = finish(job, data, seconds=time.monotonic() - began)
            console.print(outcome)
            return 0
        except SpaceError:
            raise
        except BaseException as error:
            # Ray's native calls may wrap what a signal handler raises: the handler's own note tells.
            if interruption.number is None and not isinstance(error, Exception):
                raise
            logger.exception("the search ended early")
            why = (
                f"failed: {error}; {directory.logs / 'driver.log'} says more"
                if interruption.number is None
                else "interrupted"
            )
            console.print(
                f"{why}\nEvery reported result is saved. Go on with:\n  {_resume_command(job)}",
                highlight=False,
                soft_wrap=True,
            )
            return 1 if interruption.number is None else 128 + interruption.number
        finally:
            ray.shutdown()


def _search(job: Job, cache: Path, display: Display) -> PsfDataset:
    study_config, resources = job.study, job.study.resources
    with Lanes(
        training,
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
            display.say(f"warning: {warning}")
        display.note("waiting for the lanes")
        for lane, reason in lanes.wait_ready().items():
            display.say(f"warning: going on without {lane}: {reason}")
        study = open_study(job)
        try:
            _tune(job, study, data, lanes, display)
        finally:
            requeue(study)
        return data


class _WalConnection(sqlite3.Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def open_study(job: Job) -> optuna.Study:
    """The run's Optuna study, made on first use with the documents' values as its first trial."""
    config = job.study
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    storage = optuna.storages.RDBStorage(
        job.directory.storage_url,
        # Each commit of Optuna's (one per suggestion) would wait for the disk: 0.6 s per trial instead of 0.15. In WAL
        # mode a killed process loses nothing; a power cut may cost the last reports, never the database.
        engine_kwargs={"connect_args": {"factory": _WalConnection}},
    )
    study = optuna.create_study(
        storage=storage,
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
    from search.trial import TRIAL_CPUS, FreeLane, TrialSettings, run_trial

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
    directory = job.directory
    settings = TrialSettings(
        study=job.study,
        budget=budget,
        trials=str(directory.trials.resolve()),
        events=str(directory.tensorboard.resolve()),
        data={"train": str(data.train.resolve()), "validation": str(data.validation.resolve())},
    )
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, settings=settings), {"CPU": TRIAL_CPUS}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(study, job.study, budget.steps, display),
            scheduler=Asha(rungs, objective.metric),
            num_samples=remaining,
            max_concurrent_trials=job.lanes,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}",
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(directory.path.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
            callbacks=[FreeLane(lanes.board)],
        ),
    )
    tuner.fit()


def _start_ray(job: Job, address: str | None, dashboard: bool, display: Display) -> None:
    os.environ.update(ray_environment() | TUNE_ENVIRONMENT)
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
        display.say(f"Ray dashboard: http://{context.dashboard_url}")


def _record_start(job: Job, cache: Path) -> None:
    if job.resume:
        return
    data = requests(job.study.data, job.lens, job.study.seed)
    record = RunRecord(
        name=job.directory.name,
        space=job.study.space,
        preset=job.preset,
        seed=job.study.seed,
        started=datetime.now().astimezone(),
        command=tuple(sys.argv),
        study=job.study.model_dump(mode="json", exclude_unset=True),
        data=DataSets(**{name: str((cache / key(wanted)).resolve()) for name, wanted in data.items()}),
        lens=LensRecord(name=job.lens.name, sha256=job.lens.sha256),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    )
    job.directory.create(record)


def _resume_command(job: Job) -> str:
    root = job.directory.path.parent
    out = ["--out", str(root)] if root != ROOT else []
    return shlex.join(["psf-search", "run", "--resume", job.directory.name, *out])


@contextmanager
def _library_output_to(log: Path) -> Iterator[TextIO]:
    """Send all that libraries log or print, native code included, to a file; yields the terminal, for the search."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    root = logging.getLogger()
    with log.open("a") as file, os.fdopen(os.dup(saved[0]), "w", buffering=1) as terminal:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            yield terminal
        finally:
            root.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, kept in enumerate(saved, start=1):
                os.dup2(kept, descriptor)
                os.close(kept)


@contextmanager
def _signals() -> Iterator[Interruption]:
    """The first SIGINT or SIGTERM raises `Interrupted`; while the search then ends, a second one is not waited for."""
    interruption = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interruption.number = number
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        raise Interrupted

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
