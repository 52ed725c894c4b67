"""The end of a search: finalists are judged at the sealed test set, the winner is exported and pictured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from results import comparison
from results.comparison import Interval, Verdict
from results.explorer import file as explorer_file
from results.export import best_hyperparameters, export_model, model_card
from results.plots import search_figures
from results.records import TrialRecord, read_trials
from results.summary import BaselineResult, Final, FinalistResult, Summary, Training, Winner
from search.finalists import Candidate, candidates
from search.machine import machine
from search.plan import Job
from spaces.drawing import save
from spaces.explorer import Explorer
from spaces.metrics import Mode, sign
from spaces.system import Prepared
from trainables.exports import export
from trainables.learner import Judged, Learner
from trainables.training.checkpoints import Checkpoint

logger = logging.getLogger(__name__)

Errors = dict[str, NDArray[np.float64]]
AnyLearner = Learner[Any, Any, Any, Any]


class NoWinner(RuntimeError):
    """No finalist came to an end of its training, so there is nothing to export."""


@dataclass(frozen=True)
class _Finalist:
    """A candidate with its trainings' checkpoints, and every metric's errors [S, P] at the test set."""

    candidate: Candidate
    seeds: tuple[int | None, ...]
    checkpoints: list[Checkpoint]
    errors: Errors
    bytes: int
    seconds: float

    @property
    def number(self) -> int:
        return self.candidate.trial.number

    def exported(self, mode: Mode) -> int:
        """Index of the best training, by its validation error: the test set judges, it does not choose."""
        return int(np.argmin([sign(mode) * checkpoint.best for checkpoint in self.checkpoints]))


def finish(job: Job, data: Prepared, seconds: float, ended: str) -> None:
    """Judge the finalists, export and picture the winner. The test set is read here, and only here.

    Args:
        seconds: wall-clock time of the search so far.
        ended: what ended the search.

    Raises:
        NoWinner: no trial completed, or none of the finalists could be trained.
    """
    # By default torch counts the CPUs of the affinity, and more threads than a cgroup's quota wait for each other.
    torch.set_num_threads(min(torch.get_num_threads(), machine().cpus))
    directory, objective = job.directory, job.study.objective
    learner: AnyLearner = job.study.system.make_learner()
    trials = read_trials(directory)
    test = learner.open_test(data.sets)
    judged = _judge(job, learner, trials, test)
    said = _verdict(job, judged)
    winner = next(one for one in judged if one.number == said.winner)
    best = winner.exported(objective.mode)
    checkpoint = winner.checkpoints[best]
    model = checkpoint.model().eval()
    learner.complete(model, data.sets)
    baselines = learner.baselines(data.sets, test, model) | learner.alternatives(
        data.sets, test, job.study, job.source, model, winner.candidate.trial.seconds
    )
    against = {name: _as_arrays([one]) for name, one in baselines.items()}

    references = [one for one in judged if one.candidate.trial.recommended]
    ours = {"reference": references[0].errors} if references else {}
    everything = {**ours, "best": winner.errors, **against}
    means = {
        method: {name: float(values.mean()) for name, values in of_method.items()}
        for method, of_method in everything.items()
    }
    summary = Summary(
        name=directory.name,
        space=job.study.space,
        preset=job.preset,
        objective=objective,
        trials=_count_states(trials),
        best=Winner(
            number=winner.number,
            params=winner.candidate.trial.params,
            value=checkpoint.best,
            step=checkpoint.step,
            seed=winner.seeds[best],
        ),
        test=means,
        final=_final(job, said, judged, winner, baselines, against, data.cpu_seconds),
        ended=ended,
        prepared=data.work,
        steps=sum(trial.step for trial in trials),
        seconds=seconds,
        lane_seconds=sum(trial.seconds for trial in trials),
    )
    texts = {
        "card.md": model_card(directory, summary, learner.card(job.study, job.source.name)),
        "best_hyperparameters.yaml": best_hyperparameters(directory, summary),
    }
    facts = learner.facts(data.sets, job.study, job.source)
    export_model(directory, lambda path: export(model, job.study.model, path, facts), texts)
    _write_explorer(directory.explorer, lambda: learner.explorer(model, test, job.study))
    figures = {**learner.figures(model, test, job.study), **learner.comparison_figures(everything)}
    drawn = save(figures, directory.figures)
    rmtree(directory.winner_events, ignore_errors=True)  # of a run that has been extended
    with SummaryWriter(str(directory.winner_events)) as events:
        for name, drawing in drawn.items():
            events.add_figure(name, drawing.figure, checkpoint.step)
    save(search_figures(trials, job.study, job.budget, summary), directory.figures)
    directory.write_summary(summary)  # last: its presence says that the run has ended


def _judge(job: Job, learner: AnyLearner, trials: list[TrialRecord], test: Any) -> list[_Finalist]:
    directory, found = job.directory, []
    for candidate in candidates(trials, job.study, job.budget):
        loaded = {seed: candidate.best(directory, seed) for seed in candidate.trainings}
        there = {seed: checkpoint for seed, checkpoint in loaded.items() if checkpoint is not None}
        if not there:
            continue  # its trainings failed, which was said then
        scores = [learner.judge(checkpoint.model().eval(), test) for checkpoint in there.values()]
        found.append(
            _Finalist(
                candidate,
                tuple(there),
                list(there.values()),
                _as_arrays(scores),
                scores[0].bytes,
                min(score.seconds for score in scores),
            )
        )
    if not any(one.candidate.rival for one in found):
        reasons = "; ".join(sorted({trial.failure for trial in trials if trial.failure})[:3])
        raise NoWinner(
            f"{directory.path}: no finalist is left{': ' + reasons if reasons else ''}; see {directory.logs}"
        )
    return found


def _verdict(job: Job, judged: Sequence[_Finalist]) -> Verdict:
    """Who wins. The reference may if it is among the best trials."""
    metric = job.study.system.metrics[job.study.objective.metric].measure
    rivals = [one for one in judged if one.candidate.rival]
    finalists = [comparison.Finalist(one.number, one.errors[metric], one.bytes) for one in rivals]
    return comparison.verdict(finalists, job.study.objective.mode)


def _write_explorer(path: Path, explore: Callable[[], Explorer | None]) -> None:
    """A run is as good without it, and `psf-search figures` makes it at any time."""
    path.unlink(missing_ok=True)  # of a run that has been extended
    try:
        if (explorer := explore()) is not None:
            explorer_file.write(path, explorer)
    except Exception:  # whatever it is, it must not fail a search
        logger.exception("the report will have no explorer")


def _final(
    job: Job,
    said: Verdict,
    judged: Sequence[_Finalist],
    winner: _Finalist,
    baselines: dict[str, Judged],
    errors: dict[str, Errors],
    made: Mapping[str, float],
) -> Final:
    declared = job.study.system.metrics[job.study.objective.metric]
    metric, least = declared.measure, 0.0 if declared.ratio else -np.inf  # what has a quotient has a zero

    def behind(other: NDArray[np.float64]) -> Interval:
        return comparison.difference(other, winner.errors[metric][:, : other.shape[1]])

    items = winner.errors[metric].shape[1]
    finalists = tuple(
        FinalistResult(
            number=one.number,
            recommended=one.candidate.trial.recommended,
            rival=one.candidate.rival,
            params=one.candidate.trial.params,
            trainings=tuple(
                Training(seed=seed, value=checkpoint.best, step=checkpoint.step, test=float(test.mean()))
                for seed, checkpoint, test in zip(one.seeds, one.checkpoints, one.errors[metric], strict=True)
            ),
            score=comparison.estimate(one.errors[metric], least),
            behind=None if one is winner else behind(one.errors[metric]),
            bytes=one.bytes,
            seconds=one.seconds,
            data_seconds=None if job.study.data.streams else made.get("train"),
            training_seconds=one.candidate.trial.seconds,
        )
        for one in judged
    )
    # One that gives no such value, as an autoencoder gives no likelihood, is compared by the others that it gives.
    against = {
        name: BaselineResult(
            score=comparison.estimate(errors[name][metric], least),
            behind=behind(errors[name][metric]),
            items=None if errors[name][metric].shape[1] == items else errors[name][metric].shape[1],
            bytes=one.bytes,
            seconds=one.seconds,
            data_seconds=_of_data(one, made),
            training_seconds=one.training,
        )
        for name, one in baselines.items()
        if metric in errors[name]
    }
    return Final(
        metric=metric, finalists=finalists, winner=said.winner, tied=said.tied, verdict=said.text, baselines=against
    )


def _of_data(one: Judged, made: Mapping[str, float]) -> float | None:
    """CPU seconds of the data that something is made of; None: not known."""
    if one.data is None:
        return 0.0
    return one.share * made[one.data] if one.data in made else None


def _as_arrays(trainings: Sequence[Judged]) -> Errors:
    """[S, P] of every metric."""
    return {name: np.stack([one.errors[name].double().numpy() for one in trainings]) for name in trainings[0].errors}


def _count_states(trials: list[TrialRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    return counts
