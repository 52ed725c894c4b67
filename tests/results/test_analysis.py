"""Ranking, the Pareto front, time, edges, gain and standings, on searches whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from results.analysis import analyze, edges, efficiency, pareto_front, ranked, spent, standings
from results.records import TrialRecord, read_trials
from results.summary import BaselineResult
from spaces.loading import load
from spaces.metrics import Mode
from spaces.study import Objective
from tests.results.conftest import RunMaker, around, final_of, summary_of


@pytest.fixture
def trials(make_run: RunMaker):
    return read_trials(make_run(24, fail=[5]))


def reached(trial: TrialRecord, mode: Mode) -> float:
    best = trial.best(mode)
    assert best is not None
    return best[1]


def test_ranking_is_by_best_report_whatever_the_state(trials):
    order = ranked(trials, "min")
    values = [reached(trial, "min") for trial in order]
    assert values == sorted(values)
    assert {trial.number for trial in trials} - {trial.number for trial in order} == {5}  # the failed one
    stopped = replace(trials[1], state="PRUNED", history=((200, 1e-6), (400, 0.5)))
    assert ranked([*trials, stopped], "min")[0] is stopped
    assert reached(ranked(trials, "max")[0], "max") == max(reached(trial, "max") for trial in order)


def test_trials_outside_the_constraints_come_last_the_farthest_at_the_end(trials):
    outside = {trials[1].number: 0.5, trials[2].number: 0.1}
    changed = [replace(trial, violation=outside.get(trial.number, 0.0)) for trial in trials]
    order = [trial.number for trial in ranked(changed, "min")]
    assert order[-2:] == [2, 1]
    assert order[:-2] == [trial.number for trial in ranked(trials, "min") if trial.number not in outside]


def test_constraints_are_read_from_the_study(make_run: RunMaker):
    trials = read_trials(make_run(12, overrides=["constraints=[{metric: val/kl, high: 0.5}]"]))
    outside = {trial.number for trial in trials if trial.metrics["val/kl"] > 0.5}
    assert 0 < len(outside) < 12
    assert {trial.number for trial in ranked(trials, "min")[-len(outside) :]} == outside
    assert all(trial.violation == pytest.approx(max(0, trial.metrics["val/kl"] - 0.5)) for trial in trials)


def test_the_front_holds_what_is_not_dominated(trials):
    objectives = (Objective(metric="val/prior_rel_l2", mode="min"), Objective(metric="val/prior_psnr", mode="max"))

    first: TrialRecord = trials[0]

    def trial(number: int, *values: float, violation: float = 0.0) -> TrialRecord:
        return replace(first, number=number, state="COMPLETE", values=values, violation=violation)

    found = [
        trial(1, 0.3, 30.0),
        trial(2, 0.1, 10.0),
        trial(3, 0.3, 29.0),  # worse than 1 in one, equal in the other
        trial(4, 0.2, 20.0),
        trial(5, 0.2, 20.0),  # equal: neither dominates
        trial(6, 0.01, 90.0, violation=0.2),
        replace(trial(7, 0.01, 90.0), state="RUNNING", values=None),
        replace(trial(8, 0.01, 90.0), state="PRUNED"),
    ]
    assert [one.number for one in pareto_front(found, objectives)] == [2, 4, 5, 1]


def test_a_study_of_several_objectives_has_a_front(make_run: RunMaker):
    overrides = ["scheduler=none", "further_objectives=[{metric: val/kl, mode: min}]"]
    found = analyze(make_run(20, overrides=overrides))
    rates = [trial.params["learning_rate"] for trial in found.front]
    assert len(found.front) > 2
    assert rates == sorted(rates, reverse=True)  # the error falls with the learning rate, and KL rises
    assert found.front[0] is found.ranking[0]
    assert not analyze(make_run(3, name="one-objective")).front


def test_time_is_summed_by_state(trials):
    cost = spent(trials)
    assert sum(one.trials for one in cost.values()) == 24
    assert cost["FAIL"].trials == 1
    assert sum(one.lane_seconds for one in cost.values()) == pytest.approx(
        sum(one.steps for one in cost.values()) / 100
    )
    assert "WAITING" not in cost


START = datetime(2026, 11, 21, 12)


def timed(trial: TrialRecord, lane: str, began: float, ended: float | None, seconds: float) -> TrialRecord:
    return replace(
        trial,
        lane=lane,
        started=START + timedelta(seconds=began),
        ended=None if ended is None else START + timedelta(seconds=ended),
        seconds=seconds,
    )


def test_efficiency_is_lane_time_over_the_time_in_which_trials_ran(trials):
    one = trials[1]
    found = efficiency(
        [
            timed(one, "a", 0, 10, 9),  # the lane had it from 1 on
            timed(one, "b", 2, 12, 6),
            timed(one, "a", 5, 9, 0),
            timed(one, "a", 100, 110, 10),  # after a pause in which nothing ran
            timed(one, "b", 105, None, 5),  # still runs: until its last report
            timed(one, "b", 120, 130, 60),  # resumed: what it had before is not counted
            timed(one, "", 140, 150, 0),  # no lane took it
            replace(one, lane=None, started=None, ended=None),
        ]
    )
    assert found is not None
    assert (found.lanes, found.seconds) == (2, 41)
    assert found.share == pytest.approx((9 + 6 + 10 + 5 + 10) / 82)
    assert efficiency([replace(one, lane=None, started=None)]) is None


def test_efficiency_of_a_run(make_run: RunMaker, trials):
    found = efficiency(trials)
    assert found is not None
    assert found.lanes == 2
    assert 0.8 < found.share < 0.95  # a second of every trial is its start
    assert analyze(make_run(0, name="empty")).efficiency is None


@pytest.mark.parametrize(
    ("metric", "behind", "better", "ahead"),
    [
        ("prior_rel_l2", around(-0.005, 0.001), "method", -0.005),
        ("prior_rel_l2", around(0.005, 0.001), "winner", 0.005),
        ("prior_rel_l2", around(0.005, 0.006), None, 0.005),
        ("prior_psnr", around(-2.0, 0.5), "winner", 2.0),
        ("prior_psnr", around(2.0, 0.5), "method", -2.0),
    ],
)
def test_standing_follows_the_metrics_direction(metric, behind, better, ahead):
    baseline = BaselineResult(score=around(1.0, 0.1), behind=behind, bytes=1, seconds=1.0)
    final = final_of().model_copy(update={"metric": metric, "baselines": {"rbf_cubic": baseline}})
    (found,) = standings(final, load("cvae_psf").system)
    assert found.better == better
    assert found.ahead.low < found.ahead.mean == ahead < found.ahead.high


def test_a_best_value_at_the_end_of_its_range_is_said():
    space = load("cvae_psf")
    found = edges(space, {**space.recommended(), "learning_rate": 9.5e-4, "latent_dim": 64, "fourier_bands": 5})
    assert [(edge.name, edge.end, edge.bound) for edge in found if edge.name in ("learning_rate", "latent_dim")] == [
        ("latent_dim", "lower", 64),
        ("learning_rate", "upper", 1e-3),
    ]
    assert "fourier_bands" not in [edge.name for edge in found]


def test_gain_is_on_validation_until_the_summary_has_the_test(make_run: RunMaker):
    run = make_run(12)
    found = analyze(run)
    assert found.reference is not None
    assert found.gain is not None
    assert found.gain.metric == "val/prior_rel_l2"
    assert found.gain.factor == pytest.approx(reached(found.reference, "min") / reached(found.ranking[0], "min"))
    run.write_summary(summary_of(run.name))
    gain = analyze(run).gain
    assert gain is not None
    assert (gain.metric, gain.reference, gain.best) == ("test/prior_rel_l2", 0.4, 0.02)
    assert gain.factor == pytest.approx(20)
