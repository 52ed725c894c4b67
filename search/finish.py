"""The end of a search: finalists are judged at the sealed test positions, the winner is exported and pictured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.text import Text

from deeplens_workers.dataset import PsfDataset
from deeplens_workers.field import centre_to_corner
from results import comparison
from results.analysis import analyze
from results.comparison import Interval, Verdict
from results.export import export_model, model_card
from results.plots import history_figure, psf_grid_figure
from results.records import TrialRecord, read_trials
from results.summary import BaselineResult, Final, FinalistResult, Summary, Training, Winner
from results.tables import analysis_tables
from search.finalists import Candidate, candidates
from search.plan import Job
from spaces.metrics import METRICS
from trainables.psf.cvae import CVAE, export
from trainables.psf.data import PsfSplit
from trainables.psf.interpolation import Baseline, predict_baselines
from trainables.psf.metrics import fastest, kernel_errors, predict
from trainables.training.checkpoints import Checkpoint

Errors = dict[str, NDArray[np.float64]]


class NoWinner(RuntimeError):
    """No finalist came to an end of its training, so there is nothing to export."""


@dataclass(frozen=True)
class _Judged:
    """A candidate with its trainings' checkpoints, and every metric's errors [S, P] at the test positions."""

    candidate: Candidate
    seeds: tuple[int | None, ...]
    checkpoints: list[Checkpoint]
    errors: Errors
    bytes: int
    seconds_per_psf: float

    @property
    def number(self) -> int:
        return self.candidate.trial.number

    def exported(self, mode: str) -> int:
        """Index of the best training, by its validation error: the test positions judge, they do not choose."""
        values = [checkpoint.best if mode == "min" else -checkpoint.best for checkpoint in self.checkpoints]
        return int(np.argmin(values))


def finish(job: Job, data: PsfDataset, seconds: float, ended: str) -> RenderableType:
    """Judge the finalists, export and picture the winner; returns what to show. The test set is read here, and only here.

    Args:
        seconds: wall-clock time of the search so far.
        ended: what ended the search.

    Raises:
        NoWinner: no trial completed, or none of the finalists could be trained.
    """
    directory, objective, conditions = job.directory, job.study.objective, job.study.data.conditions
    trials = read_trials(directory)
    held_out, grid = PsfSplit.load(data.test, conditions), PsfSplit.load(data.train, conditions)
    judged = _judge(job, trials, held_out)
    baselines = predict_baselines(grid, held_out.points)
    errors = {name: _as_arrays([kernel_errors(one.kernels, held_out.kernels)]) for name, one in baselines.items()}

    final, winner = _final(job, judged, baselines, errors)
    best = winner.exported(objective.mode)
    checkpoint = winner.checkpoints[best]
    model = checkpoint.model().eval()
    documents = [one for one in judged if one.candidate.trial.recommended]
    test = {"document": documents[0].errors} if documents else {}
    means = {
        method: {name: float(values.mean()) for name, values in of_method.items()}
        for method, of_method in {**test, "best": winner.errors, **errors}.items()
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
        final=final,
        ended=ended,
        rays_traced=data.rays_traced,
        steps=sum(trial.step for trial in trials),
        seconds=seconds,
        lane_seconds=sum(trial.seconds for trial in trials),
    )
    export_model(directory, lambda path: export(model, path), model_card(directory, summary))
    pictures = _draw(job, model, held_out, trials, means)
    directory.write_summary(summary)  # last: its presence says that the run has ended
    paths = {"model": directory.model, "pictures": pictures, "TensorBoard": directory.tensorboard}
    return Group(
        analysis_tables(analyze(directory)),
        Text("\n".join(f"{name:12} {path}" for name, path in {**paths, "summary": directory.summary}.items())),
    )


def _judge(job: Job, trials: list[TrialRecord], held_out: PsfSplit) -> list[_Judged]:
    directory, found = job.directory, []
    for candidate in candidates(trials, job.study, job.budget):
        loaded = {seed: candidate.best(directory, seed) for seed in candidate.trainings}
        there = {seed: checkpoint for seed, checkpoint in loaded.items() if checkpoint is not None}
        if not there:
            continue  # its trainings failed, which was said then
        models = [checkpoint.model().eval() for checkpoint in there.values()]
        predicted, seconds = zip(*(_timed(model, held_out) for model in models), strict=True)
        found.append(
            _Judged(
                candidate,
                tuple(there),
                list(there.values()),
                _as_arrays([kernel_errors(kernels, held_out.kernels) for kernels in predicted]),
                sum(tensor.numel() * tensor.element_size() for tensor in models[0].state_dict().values()),
                min(seconds),
            )
        )
    if not any(one.candidate.rival for one in found):
        reasons = "; ".join(sorted({trial.failure for trial in trials if trial.failure})[:3])
        raise NoWinner(
            f"{directory.path}: no finalist is left{': ' + reasons if reasons else ''}; see {directory.logs}"
        )
    return found


def _final(
    job: Job, judged: Sequence[_Judged], baselines: dict[str, Baseline], errors: dict[str, Errors]
) -> tuple[Final, _Judged]:
    """The verdict, and the winner. The documents' values win only if they are the best trial of all."""
    wanted = job.study.objective.metric.removeprefix("val/")
    metric = wanted if wanted in judged[0].errors else "prior_rel_l2"
    mode = METRICS[f"test/{metric}"].mode
    assert mode is not None
    rivals = [one for one in judged if one.candidate.rival]
    said: Verdict = comparison.verdict(
        [comparison.Finalist(one.number, one.errors[metric], one.bytes) for one in rivals], mode
    )
    winner = next(one for one in rivals if one.number == said.winner)

    def behind(other: NDArray[np.float64]) -> Interval:
        return comparison.difference(other, winner.errors[metric])

    finalists = tuple(
        FinalistResult(
            number=one.number,
            recommended=one.candidate.trial.recommended,
            params=one.candidate.trial.params,
            trainings=tuple(
                Training(seed=seed, value=checkpoint.best, step=checkpoint.step, test=float(test.mean()))
                for seed, checkpoint, test in zip(one.seeds, one.checkpoints, one.errors[metric], strict=True)
            ),
            score=comparison.estimate(one.errors[metric]),
            behind=None if one is winner else behind(one.errors[metric]),
            bytes=one.bytes,
            seconds_per_psf=one.seconds_per_psf,
        )
        for one in judged
    )
    against = {
        name: BaselineResult(
            score=float(errors[name][metric].mean()),
            behind=behind(errors[name][metric]),
            bytes=one.bytes,
            seconds_per_psf=one.seconds_per_psf,
        )
        for name, one in baselines.items()
    }
    final = Final(
        metric=metric, finalists=finalists, winner=said.winner, tied=said.tied, verdict=said.text, baselines=against
    )
    return final, winner


def _timed(model: CVAE, held_out: PsfSplit) -> tuple[torch.Tensor, float]:
    """Kernels at the test positions, and seconds for each on one thread of the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kernels, seconds = fastest(lambda: predict(model, held_out.points))
        return kernels, seconds / len(held_out)
    finally:
        torch.set_num_threads(threads)


def _as_arrays(trainings: Sequence[dict[str, torch.Tensor]]) -> Errors:
    """[S, P] of every metric."""
    return {name: np.stack([one[name].double().numpy() for one in trainings]) for name in trainings[0]}


def _count_states(trials: list[TrialRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.state] = counts.get(trial.state, 0) + 1
    return counts


def _draw(
    job: Job, model: CVAE, held_out: PsfSplit, trials: list[TrialRecord], test: dict[str, dict[str, float]]
) -> Path:
    points = held_out.points.numpy()
    shown = centre_to_corner(points)
    generated = predict(model, held_out.points[shown]).numpy()
    figures, objective = job.directory.figures, job.study.objective
    figures.mkdir(parents=True, exist_ok=True)
    psf_grid_figure(held_out.kernels[shown].numpy(), generated, points[shown]).savefig(figures / "psfs.png", dpi=150)
    name = objective.metric.removeprefix("val/")
    baselines = {"cubic RBF (test)": test["rbf_cubic"][name]} if name in test["rbf_cubic"] else None
    history_figure(
        trials, metric=objective.metric, mode=objective.mode, rungs=job.budget.rungs(), baselines=baselines
    ).savefig(figures / "history.png", dpi=150)
    return figures
