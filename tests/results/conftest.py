"""A small run on disk: a real SQLite study of a search whose objective has a closed form."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from sqlalchemy import Engine, event

from results.comparison import Interval
from results.run_directory import RunDirectory, RunRecord, SourceRecord
from results.summary import BaselineResult, Final, FinalistResult, Summary, Training, Winner
from spaces.loading import load
from spaces.study import Objective, Study

# These tests' own, whatever the shipped presets are.
BUDGET = ["budget.quick.grace_steps=200", "budget.quick.evaluate_every=200", "budget.quick.reduction_factor=3"]

RunMaker = Callable[..., RunDirectory]


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: sqlite3.Connection, record: object) -> None:
    """These databases are thrown away; a commit that waits for the disk takes some 10 ms."""
    connection.execute("PRAGMA synchronous=OFF")


def objective(params: dict[str, Any], step: int) -> float:
    """Falls with the steps; its floor depends on learning_rate (best at 1e-3, the upper edge) and nothing else."""
    return 0.02 * (1 + abs(math.log10(params["learning_rate"] / 1e-3))) ** 2 + 20 / step


def record_of(name: str, overrides: Sequence[str] = ()) -> RunRecord:
    return RunRecord(
        name=name,
        space="cvae_psf",
        preset="quick",
        seed=0,
        started=datetime(2026, 11, 21, 14, 30, tzinfo=UTC),
        command=("search/run.py", "--space", "cvae_psf"),
        study=load("cvae_psf", [*BUDGET, *overrides]).model_dump(mode="json"),
        data={name: f"../../data/{name}" for name in ("train", "validation", "test")},
        source=SourceRecord(name="cooke_triplet_50mm", sha256="0" * 64),
        versions={"python": "3.12"},
    )


def suggest(trial: optuna.Trial, space: Study) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for name, p in space.search.items():
        if p.choices is not None:
            params[name] = trial.suggest_categorical(name, p.choices)
            continue
        assert p.low is not None
        assert p.high is not None
        if space.is_integer(name):
            params[name] = trial.suggest_int(name, int(p.low), int(p.high), log=p.log)
        else:
            params[name] = trial.suggest_float(name, p.low, p.high, log=p.log)
    return params


def simulate(run: RunDirectory, trials: int, fail: Sequence[int], space: Study) -> optuna.Study:
    """Trial 0 is the reference; the rest are drawn at random and stopped at a rung unless they are good.

    On two lanes 100 optimizer steps take a second, and every trial another to begin with. KL, in nats, is the learning
    rate / 1e-3; PSNR is -20 log10(relative L2 error) dB.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    directions = [StudyDirection.MINIMIZE if one.mode == "min" else StudyDirection.MAXIMIZE for one in space.objectives]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), directions=directions)
    if trials:
        study.enqueue_trial(space.recommended())
    free = [datetime(2026, 11, 21, 14, 31)] * 2
    spans: list[tuple[datetime, datetime]] = []
    budget = space.budget["quick"]
    for number in range(trials):
        trial = study.ask()
        params = suggest(trial, space)
        last = 1800 if number == 0 or params["learning_rate"] > 4e-4 else 600 if params["learning_rate"] > 1e-4 else 200
        last = last if space.scheduler != "none" else 1800
        if not space.further_objectives:  # Optuna keeps reports of several objectives only through its storage
            for step in [s for s in budget.report_steps() if s <= last]:
                trial.report(objective(params, step), step)
        error = objective(params, last)
        metrics = {
            "val/prior_rel_l2": error,
            "val/prior_psnr": -20 * math.log10(error),
            "val/kl": params["learning_rate"] / 1e-3,
        }
        decisions = [
            {"step": rung, "go_on": rung < last, "rung": rung, "reason": f"rank 3 of {number + 3} at rung {rung}"}
            for rung in budget.rungs()
            if rung <= last and space.scheduler != "none"
        ]
        lane = free.index(min(free))
        spans.append((free[lane], free[lane] + timedelta(seconds=1 + last / 100)))
        free[lane] = spans[-1][1]
        progress = {
            "step": last,
            "seconds": last / 100,
            "lane": f"lane-{lane}",
            "metrics": metrics,
            "decisions": decisions,
        }
        trial.set_user_attr("progress", progress)
        for constraint in space.constraints:
            trial.set_constraint(constraint.metric, constraint.violation(metrics[constraint.metric]))
        if number in fail:
            trial.set_user_attr("failure", f"the loss became nan at step {last}")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif last < 1800:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, [metrics[one.metric] for one in space.objectives])
    # Simulated in memory, then stored: one commit per trial, not one per report.
    stored = optuna.create_study(storage=run.storage_url, study_name=run.name, directions=directions)
    for frozen, (started, ended) in zip(study.trials, spans, strict=True):
        frozen.datetime_start, frozen.datetime_complete = started, ended
        if space.further_objectives:
            steps = budget.report_steps()
            frozen.intermediate_values = {step: objective(frozen.params, step) for step in steps}
        stored.add_trial(frozen)
    return stored


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    def make(
        trials: int = 0, name: str = "a-run", fail: Sequence[int] = (), overrides: Sequence[str] = ()
    ) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        record = record_of(name, overrides)
        with run.lock():
            run.create(record)
            simulate(run, trials, fail, record.resolved_study())
        return run

    return make


def around(mean: float, half: float) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half)


def final_of() -> Final:
    """Trial 2 wins: smaller than trial 4, which is tied with it. The error is 0.02, that of cubic RBF 0.015."""

    def finalist(number: int, score: Interval, behind: Interval | None, size: int) -> FinalistResult:
        seeds = (None, 1) if number == 0 else (0, 1)
        trainings = tuple(
            Training(seed=seed, value=score.mean, step=1800, test=score.mean + shift)
            for seed, shift in zip(seeds, (-0.0004, 0.0004), strict=True)
        )
        return FinalistResult(
            number=number,
            recommended=number == 0,
            rival=number != 0,
            params={"learning_rate": 1e-3},
            trainings=trainings,
            score=score,
            behind=behind,
            bytes=size,
            seconds=4.51e-5,
        )

    def baseline(score: float, half: float) -> BaselineResult:
        return BaselineResult(
            score=around(score, half),
            behind=around(score - 0.02, half),
            bytes=1_080_000,
            seconds=3.2e-6,
            data_seconds=5.0,
            training_seconds=0.0,
        )

    return Final(
        metric="prior_rel_l2",
        finalists=(
            finalist(2, around(0.02, 0.0012), None, 1_230_000),
            finalist(4, around(0.0199, 0.0011), around(-0.0001, 0.0005), 4_560_000),
            finalist(0, around(0.4, 0.02), around(0.38, 0.019), 3_300_000),
        ),
        winner=2,
        tied=(2,),
        verdict="trials 2 and 4 are tied within noise: take the smaller, 2 (1.23 MB against 4.56 MB)",
        baselines={
            "nearest": baseline(0.08, 0.004),
            "bilinear": baseline(0.03, 0.002),
            "bicubic": baseline(0.018, 0.0009),
            "pca_rbf": baseline(0.0201, 0.0009),
            "rbf_cubic": baseline(0.015, 0.0008),
        },
    )


def summary_of(name: str) -> Summary:
    """A summary with the shape of a real one: the winner has 0.02, the reference 0.4, cubic RBF 0.015."""
    final = final_of()
    errors = {"reference": 0.4, "best": 0.02, **{method: one.score.mean for method, one in final.baselines.items()}}
    return Summary(
        name=name,
        space="cvae_psf",
        preset="quick",
        objective=Objective(metric="val/prior_rel_l2", mode="min"),
        trials={"COMPLETE": 2, "PRUNED": 1},
        best=Winner(
            number=2, params={"learning_rate": 1e-3, "lr_schedule": "one_cycle"}, value=0.021, step=1800, seed=1
        ),
        test={method: {"prior_rel_l2": error, "prior_psnr": 30.0} for method, error in errors.items()},
        final=final,
        ended="trials: all 18 have ended",
        prepared={"rays traced": 0},
        steps=4000,
        seconds=100.0,
        lane_seconds=150.0,
    )
