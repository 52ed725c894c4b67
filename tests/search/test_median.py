"""The median rule: a trial's best so far against the median of the others' best by the same step."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.median import LEAST_RIVALS, MedianRule

STEPS = (10, 20, 30)
CURVES = st.lists(
    st.lists(st.floats(-1, 1), min_size=1, max_size=3), min_size=1, max_size=8
)  # of each trial, its values at the first of STEPS


def rule_of(*curves, grace=10, mode="min"):
    """A rule that knows so many trials' values at `STEPS`."""
    rule = MedianRule(grace, mode)
    for trial, curve in enumerate(curves):
        for step, value in zip(STEPS, curve, strict=False):
            rule.record(trial, step, value)
    return rule


def test_it_takes_others_to_compare_with():
    few = rule_of(*([1.0] for _ in range(LEAST_RIVALS - 1)), [9.0])
    assert few.judge(LEAST_RIVALS - 1) is None
    few.record(LEAST_RIVALS, 10, 1.0)
    decision = few.judge(LEAST_RIVALS - 1)
    assert decision is not None
    assert not decision.go_on


def test_only_those_that_came_as_far_are_compared_with():
    rule = rule_of(*([1.0] for _ in range(10)), [9.0, 9.0])
    assert rule.judge(10) is None  # nobody else has come to step 20


def test_no_trial_is_stopped_within_its_grace():
    rule = rule_of(*([1.0, 1.0] for _ in range(6)), [9.0], grace=20)
    assert rule.judge(6) is None
    rule.record(6, 20, 9.0)
    decision = rule.judge(6)
    assert decision is not None
    assert (decision.go_on, decision.rung) == (False, 20)


def test_a_trial_that_has_not_reported_is_not_judged():
    assert rule_of(*([1.0] for _ in range(6))).judge(6) is None


def test_its_best_value_counts_against_the_median_of_the_others_best():
    others = [[0.1, 9.0], [0.2, 9.0], [0.3, 9.0], [0.4, 9.0], [0.5, 9.0]]
    rule = rule_of(*others, [0.3, 8.0])
    decision = rule.judge(5)
    assert decision is not None
    assert decision.go_on  # the median of the others' best is 0.3: as good is good enough
    assert decision.reason == "best 0.3 by step 20, median of 5 others 0.3"
    assert not rule_of(*others, [0.31, 8.0]).judge(5).go_on  # type: ignore[union-attr]


def test_its_own_value_is_not_in_the_median():
    rule = rule_of([1.0], [1.0], [1.0], [2.0], [2.0], [2.0], [1.6])
    decision = rule.judge(6)
    assert decision is not None
    assert not decision.go_on  # the median of the others is 1.5; with its own value it would be 1.6


def test_a_greater_value_is_better_in_max_mode():
    curves = [[1.0], [2.0], [3.0], [4.0], [5.0]]
    for mine, goes_on in ((2.9, False), (3.0, True)):
        decision = rule_of(*curves, [mine], mode="max").judge(5)
        assert decision is not None
        assert decision.go_on is goes_on
        assert decision.reason == f"best {mine:.4g} by step 10, median of 5 others 3"


@given(CURVES)
def test_max_mode_is_min_mode_of_the_negative(curves):
    least = rule_of(*curves)
    most = rule_of(*([-value for value in curve] for curve in curves), mode="max")

    def seen(rule):
        return [(decision.go_on, decision.rung) if (decision := rule.judge(t)) else None for t in range(len(curves))]

    assert seen(least) == seen(most)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_left_out(value):
    rule = rule_of(*([1.0] for _ in range(5)), [value])
    assert rule.judge(5) is None
    rule.record(6, 10, 2.0)
    decision = rule.judge(6)
    assert decision is not None
    assert decision.reason == "best 2 by step 10, median of 5 others 1"


def test_what_a_retried_trial_repeats_changes_nothing():
    rule = rule_of(*([1.0, 1.0] for _ in range(5)), [2.0, 2.0])
    before = rule.judge(5)
    rule.record(5, 10, 0.0)
    rule.record(5, 20, 0.0)
    assert rule.judge(5) == before


def test_replayed_trial_by_trial_it_decides_as_it_did_report_by_report():
    curves = [[1.0 + trial, 2.0 - trial, 0.1 * trial] for trial in range(7)]
    live = MedianRule(10, "min")
    for step, values in zip(STEPS, zip(*curves, strict=True), strict=True):
        for trial, value in enumerate(values):
            live.record(trial, step, value)
    expected = [live.judge(trial) for trial in range(7)]
    assert None not in expected
    for order in list(permutations(range(7)))[::500]:
        replayed = MedianRule(10, "min")
        for trial in order:
            for step, value in zip(STEPS, curves[trial], strict=True):
                replayed.record(trial, step, value)
        assert [replayed.judge(trial) for trial in range(7)] == expected
