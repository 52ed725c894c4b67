"""The end of a search: the winner is chosen, judged at the sealed test positions, exported and pictured."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from deeplens_workers.dataset import PsfDataset
from results.analysis import analyze, ranked
from results.export import export_model, model_card
from results.plots import centre_to_corner, history_figure, psf_grid_figure
from results.records import TrialRecord, read_trials
from results.run_directory import RunDirectory, Summary, Winner
from results.tables import analysis_tables
from search.plan import Job
from trainables.baselines import score_baselines
from trainables.checkpoint import Checkpoint, load_checkpoint
from trainables.data import PsfSplit
from trainables.metrics import kernel_metrics, predict
from trainables.vae import CVAE, export


class NoWinner(RuntimeError):
    """No trial reached the full budget, so there is nothing to export."""


def finish(job: Job, data: PsfDataset, seconds: float) -> RenderableType:
    """Judge, export and picture the best trial of a search; returns what to show.

    A trial counts by its best report, that of its `best` checkpoint. Only trials that reached the full budget can win, as
    in the study's own `best_trial`: the documents' values had the full budget too. The test set is read here for the
    first time.

    Args:
        seconds: wall-clock time of the search so far.

    Raises:
        NoWinner: no trial completed.
    """
    directory, objective = job.directory, job.study.objective
    trials = read_trials(directory)
    complete = [trial for trial in trials if trial.state == "COMPLETE" and trial.value is not None]
    if not complete:
        reasons = "; ".join(sorted({trial.failure for trial in trials if trial.failure})[:3])
        raise NoWinner(f"{directory.path}: no trial completed{': ' + reasons if reasons else ''}; see {directory.logs}")
    best = ranked(complete, objective.mode)[0]
    document = next((trial for trial in complete if trial.recommended), None)

    conditions = job.study.data.conditions
    held_out, grid = PsfSplit.load(data.test, conditions), PsfSplit.load(data.train, conditions)
    checkpoint = _checkpoint(directory, best)
    model = checkpoint.model().eval()
    test = {"best": _score(model, held_out), **score_baselines(grid, held_out)}
    if document is not None:
        test = {"document": _score(_checkpoint(directory, document).model().eval(), held_out), **test}

    summary = Summary(
        name=directory.name,
        space=job.study.space,
        preset=job.preset,
        objective=objective,
        trials=_count_states(trials),
        best=Winner(number=best.number, params=best.params, value=checkpoint.best, step=checkpoint.step),
        test=test,
        rays_traced=data.rays_traced,
        steps=sum(trial.step for trial in trials),
        seconds=seconds,
        lane_seconds=sum(trial.seconds for trial in trials),
    )
    export_model(directory, lambda path: export(model, path), model_card(directory, summary))
    pictures = _draw(job, model, held_out, trials, test)
    directory.write_summary(summary)  # last: its presence says that the run has ended
    paths = {"model": directory.model, "pictures": pictures, "TensorBoard": directory.tensorboard}
    return Group(
        analysis_tables(analyze(directory)),
        Text("\n".join(f"{name:12} {path}" for name, path in {**paths, "summary": directory.summary}.items())),
    )


def _checkpoint(directory: RunDirectory, trial: TrialRecord) -> Checkpoint:
    checkpoint = load_checkpoint(directory.checkpoints(trial.number), "best")
    if checkpoint is None:
        raise NoWinner(f"{directory.checkpoints(trial.number)}: trial {trial.number} has no valid checkpoint")
    return checkpoint


def _score(model: CVAE, held_out: PsfSplit) -> dict[str, float]:
    return kernel_metrics(predict(model, held_out.points), held_out.kernels)


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
