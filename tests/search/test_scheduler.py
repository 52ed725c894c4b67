"""Early stopping as Tune asks for it, result by result."""

import math
from types import SimpleNamespace
from typing import get_args

import pytest

from search.asha import Rungs
from search.median import MedianRule
from search.scheduler import CONTINUE, RULES, STOP, EarlyStopping, rule
from spaces.study import Study
from tests.search.small import METRIC, PRESET, STEPS, small

OTHER = "val/prior_psnr"


def scheduler(reduction_factor=2, also=(), **options):
    return EarlyStopping(Rungs([10, 30], reduction_factor, "min"), (METRIC, *also), **options)


def report(stopping, number, value, step=10, **others):
    """What the scheduler says of a trial's report."""
    result = {METRIC: value, "step": step, "failure": None, **others}
    return stopping.on_trial_result(None, SimpleNamespace(config={"number": number}), result)


def test_a_trial_goes_on_or_is_stopped_as_the_rule_says():
    stopping = scheduler()
    assert report(stopping, 1, 1.0) == CONTINUE
    assert report(stopping, 2, 2.0) == STOP
    assert report(stopping, 3, 0.5) == CONTINUE
    assert report(stopping, 1, 0.1, step=20) == STOP  # by its value at the rung, now that trial 3 has been there
    assert stopping.decisions[1].reason == "rank 2 of 3 at rung 10, 1 may go on"


def test_its_decisions_are_there_to_be_noted():
    stopping = scheduler()
    assert report(stopping, 1, 1.0, step=5) == CONTINUE
    assert stopping.decisions == {}  # there was nothing to decide
    report(stopping, 1, 1.0)
    report(stopping, 2, 2.0)
    assert {number: (one.go_on, one.rung, one.reason) for number, one in stopping.decisions.items()} == {
        1: (True, 10, "rank 1 of 1 at rung 10, 1 may go on"),
        2: (False, 10, "rank 2 of 2 at rung 10, 1 may go on"),
    }


def test_an_exempt_trial_is_ranked_but_never_stopped():
    stopping = scheduler(exempt=(0,))
    report(stopping, 1, 1.0)
    assert report(stopping, 0, 9.0) == CONTINUE
    assert 0 not in stopping.decisions
    report(stopping, 2, 9.5)
    assert stopping.decisions[2].reason == "rank 3 of 3 at rung 10, 1 may go on"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("of", [Rungs([10], 2, "min"), None], ids=["asha", "none"])
def test_an_objective_that_is_not_finite_ends_the_trial(value, of):
    stopping = EarlyStopping(of, (METRIC,), exempt=(0,))
    assert report(stopping, 0, value) == STOP  # exempt or not
    assert report(stopping, 1, value, step=7) == STOP  # at a rung or not
    assert stopping.decisions == {}


@pytest.mark.parametrize("others", [{OTHER: math.nan}, {OTHER: math.inf}, {}])
def test_so_does_another_watched_metric(others):
    assert report(scheduler(also=(OTHER,)), 1, 1.0, **others) == STOP
    assert report(scheduler(also=(OTHER,)), 1, 1.0, **{OTHER: 30.0}) == CONTINUE
    assert report(scheduler(), 1, 1.0, **others) == CONTINUE


@pytest.mark.parametrize("result", [{"failure": "out of memory", METRIC: math.nan}, {"failure": None}])
def test_a_trial_that_failed_ends_by_itself(result):
    stopping = scheduler()
    trial = SimpleNamespace(config={"number": 1})
    assert stopping.on_trial_result(None, trial, {"step": 10, **result}) == CONTINUE
    assert stopping.decisions == {}


def test_without_a_rule_nothing_is_stopped():
    stopping = EarlyStopping(None, (METRIC,))
    stopping.replay(0, {10: 0.0})
    assert [report(stopping, number, float(number), step) for number in range(9) for step in (10, 30)] == [
        CONTINUE
    ] * 18
    assert stopping.decisions == {}


def test_it_goes_on_from_what_was_reported_before_the_search_was_resumed():
    curves = {number: {10: (number * 5) % 8 + 1.0, 30: (number * 3) % 8 + 1.0} for number in range(8)}
    live, resumed = scheduler(3), scheduler(3)
    for number, curve in curves.items():
        for step, value in curve.items():
            report(live, number, value, step)
        resumed.replay(number, dict(reversed(curve.items())))  # steps need not be in order
    live.decisions.clear()
    for number in range(8):
        later = curves[number][10] + 1.0
        assert report(resumed, number, later, step=40) == report(live, number, later, step=40)
    assert resumed.decisions == live.decisions != {}
    assert report(resumed, 8, 9.5) == STOP


def test_a_study_s_rule_has_its_budget_and_mode():
    space = small(scheduler="asha")
    asha = rule(space, space.budget[PRESET])
    assert isinstance(asha, Rungs)
    for trial, value in enumerate((3.0, 2.0, 1.0)):  # reduction_factor 3: one place of three
        asha.record(trial, 200, value)
    assert [asha.judge(trial).go_on for trial in range(3)] == [False, False, True]  # type: ignore[union-attr]

    of_psnr = small(scheduler="median", objective={"metric": OTHER, "mode": "max"})
    median = rule(of_psnr, of_psnr.budget[PRESET])
    assert isinstance(median, MedianRule)
    for trial in range(5):
        for step in (200, STEPS):
            median.record(trial, step, 30.0)
    for step, stopped in ((100, False), (200, True)):  # the grace is 200 steps
        median.record(5, step, 29.0)
        assert (median.judge(5) is not None) is stopped

    assert rule(small(scheduler="none"), space.budget[PRESET]) is None


def test_every_scheduler_a_space_may_name_is_there():
    assert RULES.keys() == set(get_args(Study.model_fields["scheduler"].annotation))
