"""One search from start to end: lanes warm up while the data is prepared, Tune runs the trials, the winner is judged."""

from __future__ import annotations

import logging
import os
import platform
import shlex
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import ray
from optuna.trial import TrialState
from rich.console import Console

from results.records import check_database, read_trials
from results.run_directory import RunRecord, SourceRecord
from search import warm_start
from search.display import Display
from search.finalists import candidates, train_finalists
from search.ledger import Ledger
from search.limits import Limits
from search.observer import Observer, Observers
from search.plan import SPARE_CPUS, Job, Shape, fit_cluster, fit_machine, unused_gpus
from search.process import library_output_to, signals, start_ray
from search.quota import Quota
from search.sampler import rehearse
from search.scheduler import EarlyStopping, rule
from search.searcher import StudySearcher, open_ledger
from search.trial import TRIAL_CPUS, FreeLane, TrialSettings, run_trial
from spaces.errors import SpaceError
from spaces.system import Prepared
from trainables.lanes.lanes import Lanes, LanesLost

logger = logging.getLogger(__name__)

TRIAL_RETRIES = 2
PACKAGES = ("psf-search", "deeplens-core", "optuna", "ray", "torch")
# A failed trial reports no objective; metrics and logs have their own places; signals are the driver's.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def run_search(job: Job, *, cache: Path, address: str | None, dashboard: bool) -> int:
    """Run or go on with a search; returns the exit code: 0, 1 (failed), 130 or 143 (interrupted).

    Raises:
        SpaceError: the run is in use or damaged, or the cluster cannot hold its shape.
    """
    began = time.monotonic()
    directory = job.directory
    log = directory.logs / "driver.log"
    with directory.lock(), signals() as interruption, library_output_to(log) as terminal:
        console = Console(file=terminal, markup=False)
        try:
            with Display(job.study, budget=job.budget, console=console) as display:
                display.note("starting Ray")
                shape = _start_ray(job, address, dashboard, display)
                _record_start(job, cache, display)
                data, ended = _search(job, shape, cache, display)
                display.note("judging the finalists at the sealed test set")
                from search.finish import finish

                outcome = finish(job, data, seconds=time.monotonic() - began, ended=ended)
            console.print(outcome)
            return 0
        except SpaceError:
            raise
        except BaseException as error:
            # Ray's native calls may wrap what a signal handler raises: the handler's own note tells.
            if interruption.number is None and not isinstance(error, Exception):
                raise
            logger.exception("the search ended early")
            why = "interrupted" if interruption.number is not None else f"failed: {error}; {log} says more"
            if directory.record.exists():
                why += f"\nEvery reported result is saved. Go on with:\n  {_resume_command(job, cache, address)}"
            else:
                why += "\nThe run had not begun: nothing is saved, its name is free"
            console.print(why, highlight=False, soft_wrap=True)
            return 1 if interruption.number is None else 128 + interruption.number
        finally:
            ray.shutdown()


def _search(job: Job, shape: Shape, cache: Path, display: Display) -> tuple[Prepared, str]:
    """Prepare the data, search, train the finalists; the data, and what ended the search."""
    config, resources, directory = job.study, job.study.resources, job.directory.absolute()
    preparation = config.system.make_preparation()
    if directory.study_db.exists():
        check_database(directory)
    with Lanes(
        lanes=shape.lanes,
        most=shape.most_lanes,
        workers=resources.workers_per_trial,
        cpus=shape.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        spare_cpus=shape.render_actors + SPARE_CPUS,
        storage=directory.lanes,
        logs=directory.logs,
        told=display.lanes_changed,
    ) as lanes:
        made_of = (config.data, job.source, config.seed)
        data = preparation.prepare(*made_of, cache, shape.render_actors, display.prepared)
        for warning in data.warnings:
            display.say(f"warning: {warning}")
        earlier = warm_start.read(directory)
        experience = earlier.experience(config) if earlier is not None else None
        with closing(open_ledger(directory.storage_url, directory.name, config, job.budget, experience)) as ledger:
            if config.data.streams:
                display.note("filling the stream of fresh data")
            with preparation.supply(*made_of, shape.render_actors) as supply:
                known = {name: path for name, path in data.sets.items() if name != "test"}
                settings = TrialSettings(config, job.budget, directory, {**known, **supply.sets})
                quota = Quota(settings, ledger, display.say)
                quota.enforce()  # a resumed run may have another one
                ended = _trials(job, settings, ledger, lanes, display, quota)
                found = candidates(read_trials(directory), config, job.budget)
                train_finalists(found, settings, lanes, display.say, quota.enforce)
                data = replace(data, work={name: done + supply.work().get(name, 0) for name, done in data.work.items()})
                if (failure := supply.failure()) is not None:
                    display.say(f"warning: {failure}")
        return data, ended


def _trials(job: Job, settings: TrialSettings, ledger: Ledger, lanes: Lanes, display: Display, quota: Quota) -> str:
    """Run the trials that are left; what ended the search."""
    budget = job.budget
    finished = sum(trial.state.is_finished() for trial in ledger.trials)
    if finished >= budget.trials:
        return f"trials: all {finished} have ended"
    job.directory.summary.unlink(missing_ok=True)  # of a run that is extended: no longer the end
    display.note("waiting for the lanes (they start once, in about a minute on two cores)")
    rehearse(job.study, len(ledger.trials))
    lanes.wait_ready()
    complete = {trial.number: trial.values[0] for trial in ledger.trials if trial.state is TrialState.COMPLETE}
    display.search_started(finished, lanes.count, complete)
    limits = Limits(budget, job.study.objective.mode, ledger)
    observers = Observers(display, quota)
    tune_trials(settings, ledger, lanes, observers, limits, trials=budget.trials - finished)
    if limits.reason is not None:
        display.say(f"the search ends: {limits.reason}")
        return limits.reason
    return f"trials: all {sum(trial.state.is_finished() for trial in ledger.trials)} have ended"


def tune_trials(
    settings: TrialSettings, ledger: Ledger, lanes: Lanes, observer: Observer, limits: Limits, trials: int
) -> None:
    """Let Tune run so many trials on the lanes.

    Raises:
        LanesLost: no lane is left. Trials that it struck wait to be resumed.
    """
    from ray import tune
    from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback

    study, budget, directory = settings.study, settings.budget, settings.directory
    stopping = EarlyStopping(rule(study, budget), study.objective.metric, exempt=(0,), watched=study.watched)
    for trial in ledger.trials:
        stopping.replay(trial.number, trial.intermediate_values)
    searcher = StudySearcher(ledger, study, budget.steps, observer, stopping.decisions, lambda: lanes.count)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, settings=settings), {"CPU": TRIAL_CPUS}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=stopping,
            num_samples=trials,
            max_concurrent_trials=lanes.most,  # known from the start; the searcher minds the lanes that there are
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:05d}",
        ),
        run_config=tune.RunConfig(
            name=directory.tune.name,
            storage_path=str(directory.path),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=TRIAL_RETRIES),
            stop=limits,
            # The two files per trial that `tune ls` reads.
            callbacks=[FreeLane(lanes.board), JsonLoggerCallback(), CSVLoggerCallback()],
        ),
    )
    tuner.fit()
    if searcher.no_lane is not None:
        raise LanesLost(searcher.no_lane)


def _start_ray(job: Job, address: str | None, dashboard: bool, display: Display) -> Shape:
    os.environ.update(TUNE_ENVIRONMENT)
    namespace = f"psf-search-{job.directory.name}"
    if address is not None:
        try:
            start_ray(address, namespace=namespace)
        except ConnectionError as error:
            raise SpaceError(
                f"--address {address}: {str(error).splitlines()[0]}"
                + (
                    ""
                    if "RAY_AUTH_MODE" in os.environ
                    else "; does the cluster ask for a token? Then set RAY_AUTH_MODE=token"
                )
            ) from error
        there = ray.cluster_resources()
        return fit_cluster(job.study, job.budget.trials, there.get("CPU", 0), there.get("GPU", 0))
    shape = fit_machine(job.study, job.budget.trials)
    if (unused := unused_gpus(job.study)) is not None:
        display.say(f"note: {unused}")
    context = start_ray(
        namespace=namespace, num_cpus=shape.logical_cpus, include_dashboard=dashboard, dashboard_host="127.0.0.1"
    )
    if dashboard:
        display.say(
            f"Ray dashboard: http://{context.dashboard_url} (`ray get-auth-token` prints the token it asks for)"
        )
    return shape


def _record_start(job: Job, cache: Path, display: Display) -> None:
    """Write down how the run was started, or what is changed now that it goes on."""
    study = job.study.model_dump(mode="json", exclude_none=True)
    if job.resume:
        for change in job.changes:
            display.say(f"changed: {change}; trials so far keep the values they had")
        record = job.directory.read_record()
        if study != record.study:
            changes = (*record.changes, *job.changes)
            job.directory.rewrite_record(record.model_copy(update={"study": study, "changes": changes}))
        return
    places = job.study.system.make_preparation().places(job.study.data, job.source, job.study.seed, cache)
    record = RunRecord(
        name=job.directory.name,
        space=job.study.space,
        preset=job.preset,
        seed=job.study.seed,
        started=datetime.now().astimezone(),
        command=tuple(sys.argv),
        study=study,
        data={name: str(path) for name, path in places.items()},
        source=SourceRecord(name=job.source.name, sha256=job.source.sha256),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    )
    if job.warm_start is not None:
        warm_start.write(job.directory, job.warm_start)
    job.directory.create(record)  # last: a run that has its record can be resumed


def _resume_command(job: Job, cache: Path, address: str | None) -> str:
    directory = job.directory
    options = ["--out", str(directory.path.parent), "--cache", str(cache)]
    return shlex.join(
        ["psf-search", "run", "--resume", directory.name, *options, *(["--address", address] if address else [])]
    )
