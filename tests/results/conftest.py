"""A small run on disk: a real SQLite study of a search whose objective has a closed form."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, event

from results.run_directory import DataSets, LensRecord, RunDirectory, RunRecord, Summary, Winner
from spaces.loading import load
from spaces.study import Objective

RunMaker = Callable[..., RunDirectory]


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: sqlite3.Connection, record: object) -> None:
    """These databases are thrown away; a commit that waits for the disk takes some 10 ms."""
    connection.execute("PRAGMA synchronous=OFF")


def objective(params: dict[str, Any], step: int) -> float:
    """Falls with the steps; its floor depends on learning_rate (best at 1e-3, the upper edge) and nothing else."""
    return 0.02 * (1 + abs(math.log10(params["learning_rate"] / 1e-3))) ** 2 + 20 / step


def record_of(name: str, space: str = "cvae_psf") -> RunRecord:
    return RunRecord(
        name=name,
        space=space,
        preset="quick",
        seed=0,
        started=datetime(2026, 11, 21, 14, 30, tzinfo=UTC),
        command=("search/run.py", "--space", space),
        study=load(space).model_dump(mode="json"),
        data=DataSets(train="../../data/train", validation="../../data/validation", test="../../data/test"),
        lens=LensRecord(name="cooke_triplet_50mm", sha256="0" * 64),
        versions={"python": "3.12"},
    )


def simulate(run: RunDirectory, trials: int, fail: int | None = None) -> optuna.Study:
    """Trial 0 has the documents' values; the rest are drawn at random and stopped at a rung unless they are good."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load("cvae_psf")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    if trials:
        study.enqueue_trial(space.recommended())
    for number in range(trials):
        trial = study.ask()
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
        last = 1800 if number == 0 or params["learning_rate"] > 4e-4 else 600 if params["learning_rate"] > 1e-4 else 200
        for step in [s for s in space.budget["quick"].report_steps() if s <= last]:
            trial.report(objective(params, step), step)
        trial.set_user_attr("step", last)
        trial.set_user_attr("seconds", last / 100)
        trial.set_user_attr("lane", "lane-0")
        trial.set_user_attr("metrics", {"val/prior_rel_l2": objective(params, last), "val/kl": 0.5})
        if number == 0:
            trial.set_user_attr("recommended", True)
        if number == fail:
            trial.set_user_attr("failure", "the loss became nan at step 400")
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif last < 1800:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, objective(params, last))
    # Simulated in memory, then stored: one commit per trial, not one per report.
    stored = optuna.create_study(storage=run.storage_url, study_name=run.name)
    stored.add_trials(study.trials)
    return stored


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    def make(trials: int = 0, name: str = "a-run", fail: int | None = None) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        with run.lock():
            run.create(record_of(name))
            simulate(run, trials, fail)
        return run

    return make


def summary_of(name: str) -> Summary:
    """A summary with the shape of a real one: best 0.02, documents' values 0.4, cubic RBF 0.015."""
    errors = {"document": 0.4, "best": 0.02, "nearest": 0.08, "bilinear": 0.03, "rbf_cubic": 0.015}
    return Summary(
        name=name,
        space="cvae_psf",
        preset="quick",
        objective=Objective(),
        trials={"COMPLETE": 2, "PRUNED": 1},
        best=Winner(number=2, params={"learning_rate": 1e-3, "lr_schedule": "one_cycle"}, value=0.021, step=1800),
        test={method: {"prior_rel_l2": error, "prior_psnr": 30.0} for method, error in errors.items()},
        rays_traced=0,
        steps=4000,
        seconds=100.0,
        lane_seconds=150.0,
    )
