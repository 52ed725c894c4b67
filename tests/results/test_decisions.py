"""Early stopping seen afterwards: survival at each rung, the reasons of stopped trials and of failed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from results.analysis import analyze
from results.decisions import Failure, Stop, failures, stops, survival
from results.records import DecisionRecord, State, TrialRecord, read_trials
from tests.results.conftest import RunMaker


@pytest.fixture
def trial(make_run: RunMaker) -> TrialRecord:
    return read_trials(make_run(1))[0]


def reporting(trial: TrialRecord, number: int, state: State, values: Sequence[float]) -> TrialRecord:
    """A trial that reported so many values, at steps 100, 200, ..."""
    history = tuple((100 * (index + 1), value) for index, value in enumerate(values))
    return replace(trial, number=number, state=state, history=history, step=100 * len(values))


def test_survival_counts_who_came_went_on_and_was_stopped(trial):
    trials = [
        reporting(trial, 0, "COMPLETE", [9, 8, 7, 6, 5, 4]),
        reporting(trial, 1, "PRUNED", [7]),  # stopped at the first rung
        reporting(trial, 2, "PRUNED", [3, 4]),  # went on, and was stopped when judged there again
        reporting(trial, 3, "PRUNED", [2, 2, 1]),  # stopped at the second rung
        reporting(trial, 4, "RUNNING", [1]),  # not decided yet
        reporting(trial, 5, "FAIL", [5, 5]),
        reporting(trial, 6, "WAITING", []),
    ]
    first, second, last = survival(trials, [100, 300, 600], "min")
    assert (first.step, first.came, first.went_on, first.stopped) == (100, 6, 4, 2)
    assert (first.best, first.median) == (1, 4)
    assert (second.step, second.came, second.went_on, second.stopped) == (300, 2, 1, 1)
    assert (last.step, last.came, last.went_on, last.stopped) == (600, 1, 1, 0)
    assert survival(trials, [100], "max")[0].best == 9
    nobody = survival(trials, [700], "min")[0]
    assert (nobody.came, nobody.best, nobody.median) == (0, None, None)


def test_survival_of_a_run_is_at_its_rungs(make_run: RunMaker):
    found = analyze(make_run(24, fail=[5]))
    assert [row.step for row in found.survival] == [200, 600, 1800]
    assert found.survival[0].came == 24
    assert found.survival[1].came == found.survival[0].went_on < 24
    assert found.survival[2].came == found.spent["COMPLETE"].trials
    assert sum(row.stopped for row in found.survival) == found.spent["PRUNED"].trials == len(found.stops)
    assert analyze(make_run(3, name="without", overrides=["scheduler=none"])).survival == []


def test_stops_say_why_in_the_order_in_which_they_happened(trial):
    decisions = (DecisionRecord(100, True, 100, "rank 1 of 1"), DecisionRecord(200, False, 100, "rank 4 of 9"))
    early, late = datetime(2026, 11, 21, 12), datetime(2026, 11, 21, 13)
    trials = [
        replace(trial, number=0, state="COMPLETE", decisions=decisions[:1]),
        replace(trial, number=1, state="PRUNED", step=200, decisions=decisions, ended=late),
        replace(trial, number=2, state="PRUNED", step=100, decisions=decisions[:1], ended=early),
    ]
    assert stops(trials) == [Stop(2, 100, "no reason recorded"), Stop(1, 200, "rank 4 of 9")]


def test_failures_are_grouped_by_reason_whatever_the_step(trial):
    reasons = ["the loss became nan at step 400", "a worker died\nTraceback", "the loss became nan at step 600", None]
    trials = [replace(trial, number=n, state="FAIL", failure=reason) for n, reason in enumerate(reasons)]
    assert failures([*trials, trial]) == [
        Failure("the loss became nan", (0, 2)),
        Failure("a worker died", (1,)),
        Failure("no reason recorded", (3,)),
    ]
