"""Reading trials: real SQLite studies, also while they are written, and damaged ones."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import optuna
import pytest

from results.records import DecisionRecord, read_trials
from results.run_directory import RunError
from tests.results.conftest import RunMaker, objective


def test_records_hold_what_the_study_holds(make_run: RunMaker):
    trials = read_trials(make_run(6, fail=[5]))
    assert [trial.number for trial in trials] == list(range(6))
    first, last = trials[0], trials[-1]
    assert first.state == "COMPLETE"
    assert first.recommended
    assert not last.recommended
    assert first.params["learning_rate"] == 1e-4
    assert [step for step, _ in first.history] == [200, 400, 600, 800, 1000, 1200, 1400, 1600, 1800]
    assert first.best("min") == (1800, objective(dict(first.params), 1800))
    assert first.best("max") == (200, objective(dict(first.params), 200))
    assert first.at(600) == objective(dict(first.params), 600)
    assert first.at(601) is None
    assert first.seconds == 18.0
    assert first.lane == "lane-0"
    assert first.metrics["val/kl"] == 0.1
    assert first.values == (first.value,) == (first.history[-1][1],)
    assert first.violation == 0
    assert first.decisions[0] == DecisionRecord(200, True, 200, "rank 3 of 3 at rung 200")
    assert [one.go_on for one in first.decisions] == [True, True]
    assert last.state == "FAIL"
    assert last.failure == "the loss became nan at step 200"


def test_a_non_finite_report_is_never_the_best(make_run: RunMaker):
    trial = replace(read_trials(make_run(1))[0], history=((200, math.nan), (400, 0.3), (600, -math.inf)))
    assert trial.best("min") == (400, 0.3)
    assert trial.at(200) is None
    assert replace(trial, history=((200, math.nan),)).best("min") is None


def test_a_running_search_can_be_read(make_run: RunMaker):
    run = make_run(2)
    study = optuna.load_study(study_name=run.name, storage=run.storage_url)
    study.ask().report(0.25, 200)
    third = read_trials(run)[2]
    assert (third.state, third.step, third.best("min")) == ("RUNNING", 200, (200, 0.25))


def test_reading_changes_nothing(make_run: RunMaker):
    run = make_run(3)
    before = hashlib.sha256(run.study_db.read_bytes()).digest(), sorted(run.path.rglob("*"))
    read_trials(run)
    assert (hashlib.sha256(run.study_db.read_bytes()).digest(), sorted(run.path.rglob("*"))) == before


@pytest.mark.parametrize("damage", ["garbage", "truncated", "hole", "empty", "other"])
def test_a_damaged_database_is_named_and_left_alone(make_run: RunMaker, damage):
    run = make_run(20)
    content = run.study_db.read_bytes()
    if damage == "other":
        run.study_db.unlink()
        optuna.create_study(storage=run.storage_url, study_name="another")
    else:
        middle = len(content) // 2
        run.study_db.write_bytes(
            {
                "garbage": b"not a database" * 1000,
                "truncated": content[:middle],
                "hole": content[:4096] + bytes(8192) + content[12288:],
                "empty": b"",
            }[damage]
        )
    before = run.study_db.read_bytes()
    with pytest.raises(RunError, match=r"study\.db") as caught:
        read_trials(run)
    assert "\n" not in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert run.study_db.read_bytes() == before


def test_a_missing_database_is_said_and_not_created(make_run: RunMaker):
    run = make_run()
    run.study_db.unlink()
    with pytest.raises(RunError, match=r"study\.db: missing"):
        read_trials(run)
    assert not run.study_db.exists()


def test_a_path_with_characters_of_a_url_can_be_read(make_run: RunMaker, tmp_path):
    (tmp_path / "50% of #3?").mkdir()
    run = make_run(2)
    moved = run.path.rename(tmp_path / "50% of #3?" / "a-run")
    assert len(read_trials(replace(run, path=moved))) == 2
