"""The median rule: a trial's best so far against the median of what full trials had at the same step."""

import math
from itertools import permutations

import pytest

from search.median import MedianRule

STEPS = (10, 20, 30)


def rule_of(*curves, grace=10, mode="min"):
    """A rule that knows so many trials' values at `STEPS`; those with all three are full."""
    rule = MedianRule(grace, STEPS[-1], mode)
    for trial, curve in enumerate(curves):
        for step, value in zip(STEPS, curve, strict=False):
            rule.record(trial, step, value)
    return rule


def goes_on(rule, trial):
    decision = rule.judge(trial)
    return decision is None or decision.go_on


@pytest.mark.parametrize(("full", "expected"), [(4, True), (5, False)])
def test_it_takes_five_full_trials_to_compare_with(full, expected):
    assert goes_on(rule_of(*([1.0, 1.0, 1.0] for _ in range(full)), [9.0]), full) is expected


def test_trials_that_are_not_full_do_not_count():
    assert goes_on(rule_of(*([1.0, 1.0] for _ in range(10)), [9.0]), 10)


def test_no_trial_is_stopped_within_its_grace():
    rule = rule_of(*([1.0, 1.0, 1.0] for _ in range(6)), [9.0], grace=20)
    assert goes_on(rule, 6)
    rule.record(6, 20, 9.0)
    assert not goes_on(rule, 6)


def test_a_trial_that_has_not_reported_is_not_judged():
    assert rule_of(*([1.0, 1.0, 1.0] for _ in range(6))).judge(6) is None


@pytest.mark.parametrize(("mine", "expected"), [([9.0, 3.1], False), ([9.0, 3.0], True), ([2.9, 9.0], True)])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_its_best_value_counts_against_the_median_at_its_step(mine, expected, mode):
    factor = 1 if mode == "min" else -1
    curves = [*([9.0, value, 0.0] for value in (1.0, 2.0, 3.0, 4.0, 5.0)), mine]
    rule = rule_of(*([factor * value for value in curve] for curve in curves), mode=mode)
    assert goes_on(rule, 5) is expected


def test_the_decision_to_stop_says_why():
    decision = rule_of(*([1.0, 1.0, 1.0] for _ in range(5)), [2.5, 2.0]).judge(5)
    assert decision is not None
    assert (decision.rung, decision.reason) == (20, "best 2 by step 20, worse than the median of 5 full trials")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_left_out(value):
    rule = rule_of(*([1.0, 1.0, 1.0] for _ in range(5)), [value, 0.5])
    assert goes_on(rule, 5)


def test_what_a_retried_trial_repeats_changes_nothing():
    rule = rule_of(*([1.0, 1.0, 1.0] for _ in range(5)), [2.0, 2.0])
    before = rule.judge(5)
    for step in STEPS[:2]:
        rule.record(5, step, 0.0)
        rule.record(0, step, 9.0)
    assert rule.judge(5) == before


def test_replayed_in_any_order_it_decides_as_it_did():
    curves = [
        [1.0, 2.0, 3.0],
        [5.0, 4.0, 3.0],
        [2.0, 2.0, 2.0],
        [4.0, 1.0, 0.5],
        [3.0, 3.0, 1.0],
        [9.0, 8.0],
        [1.0, 9.0],
    ]
    expected = [rule_of(*curves).judge(trial) for trial in range(7)]
    assert [trial for trial, decision in enumerate(expected) if decision] == [1, 5]
    for order in list(permutations(range(7)))[::500]:
        replayed = MedianRule(10, STEPS[-1], "min")
        for trial in order:
            for step, value in zip(STEPS, curves[trial], strict=False):
                replayed.record(trial, step, value)
        assert [replayed.judge(trial) for trial in range(7)] == expected
