"""One search from start to end: lanes warm up while the data is prepared, Tune runs the trials, the winner is judged."""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import ray
from optuna.trial import TrialState

from results.records import check_database, read_trials
from results.run_directory import MachineError, RunDirectory, RunRecord, SourceRecord
from search import warm_start
from search.address import join
from search.ledger import Ledger
from search.limits import Limits
from search.observer import Observer, Observers
from search.plan import SPARE_CPUS, Job, Shape, fit_cluster, fit_machine, places, unused_gpus
from search.process import start_ray
from search.quota import Quota
from search.sampler import rehearse
from search.scheduler import EarlyStopping, rule
from search.searcher import StudySearcher, open_ledger
from search.storage.bucket import BucketError
from search.storage.bucket_copy import copy_of
from search.storage.entries import shared_entries
from search.storage.place import Place
from search.study_disk import StudyDisk, study_disk
from search.tracking.tracker import tracked
from search.trial import FreeLane, TrialSettings, place, run_trial
from spaces.disk import full_disk
from spaces.errors import SpaceError
from spaces.study import Study
from spaces.system import Prepared
from trainables.lanes.board import NO_SPACE
from trainables.lanes.lanes import Lanes, LanesLost

logger = logging.getLogger(__name__)

TRIAL_RETRIES = 2
PACKAGES = ("psf-search", "deeplens-core", "optuna", "ray", "torch")
# A failed trial reports no objective; metrics and logs have their own places; signals are the driver's.
TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",  # which prints a heading whatever the verbosity
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def run(
    job: Job, *, cache: Place, address: str | None, dashboard: bool, observer: Observer, track: Sequence[str] = ()
) -> None:
    """Run or go on with a search, to its end.

    Args:
        track: names of trackers that hear of it, too.

    Raises:
        SpaceError: the run is in use or damaged, the machine is in the way, or the cluster cannot hold its shape.
    """
    began = time.monotonic()
    with (
        _told_plainly(job.directory),
        job.directory.lock(),
        study_disk(copy_of(job.directory, job.mirror), observer.say) as disk,
        tracked(track, job.directory, observer) as observer,
        _joined_ray(job, cache, address, dashboard, observer) as shape,
    ):
        _record_start(job, cache.path, observer)
        data, ended = _search(job, shape, cache, disk, observer)
        disk.copy()
        observer.note("judging the finalists at the sealed test set")
        from search.finish import finish

        finish(job, data, seconds=time.monotonic() - began, ended=ended)
        observer.search_ended(job.directory)  # first, as trackers send it meanwhile
        observer.note("writing the report")
        _report(job.directory, observer)


def _report(directory: RunDirectory, observer: Observer) -> None:
    """Write report.html. The run is done without it, and `psf-search report` writes it at any time."""
    try:
        from results.report import write_report

        write_report([directory], directory.report)
    except Exception as error:  # whatever it is, it must not fail a search
        logger.exception("the report was not written")
        why = full_disk(error, directory.report) or next(iter(str(error).splitlines()), type(error).__name__)
        observer.say(f"warning: no report was written: {why}")


@contextmanager
def _told_plainly(directory: RunDirectory) -> Iterator[None]:
    """What the machine is to blame for, in one line."""
    try:
        yield
    except SpaceError:
        raise
    except LanesLost as error:
        line, halt = str(error), f"{NO_SPACE}: "
        raise MachineError(line.removeprefix(halt) if line.startswith(halt) else f"{directory.path}: {line}") from error
    except BucketError as error:
        raise MachineError(f"{directory.path}: its bucket cannot be used: {error}") from error
    except Exception as error:
        if (full := full_disk(error, directory.path)) is not None:
            raise MachineError(full) from error
        raise


def _search(job: Job, shape: Shape, cache: Place, disk: StudyDisk, observer: Observer) -> tuple[Prepared, str]:
    """Prepare the data, search, train the finalists; the data, and what ended the search."""
    config, resources, directory = job.study, job.study.resources, job.directory.absolute()
    name = directory.read_record().name  # not the directory's, which may have been moved
    preparation = config.system.make_preparation()
    if disk.path.exists():
        check_database(disk.path)
    with Lanes(
        lanes=shape.lanes,
        most=shape.most_lanes,
        workers=resources.workers_per_trial,
        cpus=shape.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        spare_cpus=shape.render_actors + SPARE_CPUS,
        imports=("trainables.training.work", config.system.learner.partition(":")[0]),
        storage=directory.lanes,
        places=shape.pack.places,
        logs=directory.logs,
        told=observer.lanes_changed,
    ) as lanes:
        made_of = (config.data, job.source, config.seed)
        with shared_entries(cache, places(job, cache.path).values(), observer.say):
            data = preparation.prepare(*made_of, cache.path, shape.render_actors, observer.prepared)
        for warning in data.warnings:
            observer.say(f"warning: {warning}")
        earlier = warm_start.read(directory)
        experience = earlier.experience(config) if earlier is not None else None
        with closing(open_ledger(disk.url, name, config, job.budget, experience, observer.say)) as ledger:
            disk.on_loss = ledger.halt
            disk.check()
            if config.data.streams:
                observer.note("filling the stream of fresh data")
            with preparation.supply(*made_of, shape.render_actors) as supply:
                known = {name: path for name, path in data.sets.items() if name != "test"}
                settings = TrialSettings(config, job.budget, directory, {**known, **supply.sets})
                quota = Quota(settings, ledger, observer.say)
                quota.enforce()  # a resumed run may have another one
                ended = _trials(job, settings, ledger, lanes, Observers(observer, disk), quota)
                disk.copy()
                from search.finalists import candidates, train_finalists  # reads checkpoints, with torch

                found = candidates(read_trials(directory), config, job.budget)
                train_finalists(found, settings, lanes, observer, quota.enforce)
                data = replace(data, work=_sums(data.work, supply.work()))
                if (failure := supply.failure()) is not None:
                    observer.say(f"warning: {failure}")
        return data, ended


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """By name, what either has."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _trials(job: Job, settings: TrialSettings, ledger: Ledger, lanes: Lanes, observer: Observer, quota: Quota) -> str:
    """Run the trials that are left; what ended the search."""
    budget = job.budget
    finished = sum(trial.state.is_finished() for trial in ledger.trials)
    if finished >= budget.trials:
        return f"trials: all {finished} have ended"
    job.directory.summary.unlink(missing_ok=True)  # of a run that is extended: no longer the end
    observer.note("waiting for the lanes (they start once, in about half a minute on two cores)")
    rehearsal = _Rehearsal(job.study, len(ledger.trials))
    if ledger.trials:  # the first suggestion will need it
        rehearsal.begin()
    lanes.wait_ready()
    complete = {trial.number: trial.values[0] for trial in ledger.trials if trial.state is TrialState.COMPLETE}
    observer.search_started(finished, lanes.count, complete, lanes.places)
    limits = Limits(budget, job.study.objective.mode, ledger)
    observers = Observers(observer, quota, rehearsal)
    tune_trials(settings, ledger, lanes, observers, limits, trials=budget.trials - finished)
    if limits.reason is not None:
        observer.say(f"the search ends: {limits.reason}")
        return limits.reason
    return f"trials: all {sum(trial.state.is_finished() for trial in ledger.trials)} have ended"


class _Rehearsal(Observer):
    """Rehearses what the sampler will need, once: beside the first trials, for before them others need the CPUs to start."""

    def __init__(self, study: Study, number: int) -> None:
        self._thread = threading.Thread(target=rehearse, args=(study, number), name="rehearsal")
        self._begun = False

    def begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._thread.start()

    def trial_reported(self, number: int, step: int, value: float, metrics: Mapping[str, float]) -> None:
        self.begin()


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
    stopping = EarlyStopping(rule(study, budget), study.watched, exempt=(0,))
    for trial in ledger.trials:
        stopping.replay(trial.number, trial.intermediate_values)
    searcher = StudySearcher(ledger, study, budget.steps, observer, stopping.decisions, lambda: lanes.at_once)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, settings=settings), place()),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=stopping,
            num_samples=trials,
            max_concurrent_trials=lanes.most
            * lanes.places,  # known from the start; the searcher minds those that there are
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
    try:
        tuner.fit()
    finally:
        if ledger.failure is not None:  # of which Tune makes a text, or a trial's failure
            raise ledger.failure
    if searcher.halted is not None:
        raise LanesLost(searcher.halted)


@contextmanager
def _joined_ray(job: Job, cache: Place, address: str | None, dashboard: bool, observer: Observer) -> Iterator[Shape]:
    """Ray while a search runs, and its shape there. One that the process has joined already is left running."""
    os.environ.update(TUNE_ENVIRONMENT)
    if ray.is_initialized():
        if (job.mirror or cache.bucket) and len(ray.nodes()) > 1:
            raise SpaceError(
                "this process has joined a Ray of several nodes, which do not share the directories that are copied to s3://; give "
                "directories that they share"
            )
        yield _fit_cluster(job)
        return
    observer.note("starting Ray")
    try:
        yield _start_ray(job, address, dashboard, observer)
    finally:
        ray.shutdown()


def _fit_cluster(job: Job) -> Shape:
    there = ray.cluster_resources()
    return fit_cluster(job.study, job.budget.trials, there.get("CPU", 0), there.get("GPU", 0))


def _start_ray(job: Job, address: str | None, dashboard: bool, observer: Observer) -> Shape:
    namespace = f"psf-search-{job.directory.name}"
    if address is not None:
        join(address, namespace=namespace)
        return _fit_cluster(job)
    shape = fit_machine(job.study, job.budget.trials)
    limited = f"the search may use {shape.machine}" if shape.machine is not None and shape.machine.by else None
    for note in (limited, shape.note, unused_gpus(job.study)):
        if note is not None:
            observer.say(f"note: {note}")
    context = start_ray(
        said=observer.say,
        namespace=namespace,
        num_cpus=shape.logical_cpus,
        include_dashboard=dashboard,
        dashboard_host="127.0.0.1",
    )
    if dashboard:
        observer.say(
            f"Ray dashboard: http://{context.dashboard_url} (`ray get-auth-token` prints the token it asks for)"
        )
    return shape


def _record_start(job: Job, cache: Path, observer: Observer) -> None:
    """Write down how the run was started, or what is changed now that it goes on."""
    study = job.study.model_dump(mode="json", exclude_none=True)
    if job.resume:
        for change in job.changes:
            observer.say(f"changed: {change}; trials so far keep the values they had")
        record = job.directory.read_record()
        if study != record.study:
            changes = (*record.changes, *job.changes)
            job.directory.rewrite_record(record.model_copy(update={"study": study, "changes": changes}))
        return
    record = RunRecord(
        name=job.directory.name,
        space=job.study.space,
        preset=job.preset,
        seed=job.study.seed,
        started=datetime.now().astimezone(),
        command=tuple(sys.argv),
        study=study,
        data={name: str(path) for name, path in places(job, cache).items()},
        source=SourceRecord(name=job.source.name, sha256=job.source.sha256),
        versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    )
    warm_start.write(job.directory, job.warm_start)
    job.directory.create(record)  # last: a run that has its record can be resumed
