"""Rung decisions of asynchronous successive halving, judged again with every report."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.asha import Rungs

STEPS = (10, 30, 90)
TRIALS = range(8)
# One value for each trial and rung it came to, in any order; ties are wanted.
VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan, math.inf])
RECORDS = st.dictionaries(st.tuples(st.sampled_from(TRIALS), st.sampled_from(STEPS)), VALUES)


def rungs_of(*at_first: float, mode="min", reduction_factor=3):
    """Rungs with so many trials' values at the first one."""
    rungs = Rungs(STEPS, reduction_factor, mode)
    for trial, value in enumerate(at_first):
        rungs.record(trial, 10, value)
    return rungs


def goes_on(rungs, trial):
    decision = rungs.judge(trial)
    assert decision is not None
    return decision.go_on


def test_before_its_first_rung_there_is_nothing_to_decide():
    rungs = rungs_of(1.0)
    assert rungs.judge(1) is None
    rungs.record(1, 9, 100.0)
    assert rungs.judge(1) is None
    rungs.record(1, 10, 100.0)
    assert not goes_on(rungs, 1)


def test_one_in_reduction_factor_goes_on():
    rungs = rungs_of(*map(float, range(7)))  # 7 // 3 = 2 places
    assert [goes_on(rungs, trial) for trial in range(7)] == [True, True] + [False] * 5


def test_a_decision_says_why():
    decision = rungs_of(*map(float, range(7))).judge(4)
    assert decision is not None
    assert (decision.rung, decision.reason) == (10, "rank 5 of 7 at rung 10, 2 may go on")


def test_the_first_trial_at_a_rung_goes_on_until_it_has_better_rivals():
    rungs = rungs_of(5.0)
    assert goes_on(rungs, 0)
    rungs.record(0, 20, 4.0)  # between rungs
    assert goes_on(rungs, 0)
    rungs.record(1, 10, 3.0)
    rungs.record(0, 25, 0.1)  # judged by its value at the rung
    assert not goes_on(rungs, 0)
    assert goes_on(rungs, 1)


def test_a_pass_is_not_for_good():
    rungs = rungs_of(4.0, 5.0, 6.0)
    assert goes_on(rungs, 0)
    for trial in range(3, 6):
        rungs.record(trial, 10, 1.0)
    assert not goes_on(rungs, 0)  # fourth of six, two places


def test_a_trial_is_judged_at_its_last_rung_only():
    rungs = rungs_of(4.0, 5.0, 6.0)
    rungs.record(0, 30, 3.0)
    for trial in range(3, 9):
        rungs.record(trial, 10, 1.0)
    assert goes_on(rungs, 0)  # alone at rung 30, however many have passed it at rung 10


def test_equal_values_share_their_place():
    assert all(goes_on(rungs_of(1.0, 1.0, 1.0), trial) for trial in range(3))
    assert not goes_on(rungs_of(1.0, 1.0, 2.0), 2)


def test_in_the_end_exactly_one_in_reduction_factor_has_a_place():
    rng = random.Random(0)
    rungs = rungs_of(*(rng.random() for _ in range(300)))
    assert sum(goes_on(rungs, trial) for trial in range(300)) == 100


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_not_ranked(value):
    rungs = rungs_of(value)
    assert rungs.judge(0) is None
    rungs.record(1, 10, 1e9)
    decision = rungs.judge(1)
    assert decision is not None
    assert decision.reason == "rank 1 of 1 at rung 10, 1 may go on"


def test_what_a_retried_trial_repeats_changes_nothing():
    rungs = rungs_of(1.0, 0.5, 2.0, reduction_factor=2)
    rungs.record(2, 10, 0.0)
    assert not goes_on(rungs, 2)
    rungs.record(1, 30, 0.4)
    rungs.record(1, 10, 0.5)  # from an older checkpoint
    decision = rungs.judge(1)
    assert decision is not None
    assert decision.rung == 30


@given(RECORDS)
def test_max_mode_is_min_mode_of_the_negative(records):
    least, most = Rungs(STEPS, 3, "min"), Rungs(STEPS, 3, "max")
    for (trial, step), value in records.items():
        least.record(trial, step, value)
        most.record(trial, step, -value)
    assert [least.judge(trial) for trial in TRIALS] == [most.judge(trial) for trial in TRIALS]


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(records, rng):
    one, other = Rungs(STEPS, 3, "min"), Rungs(STEPS, 3, "min")
    shuffled = list(records.items())
    rng.shuffle(shuffled)
    for rungs, order in ((one, records.items()), (other, shuffled)):
        for (trial, step), value in order:
            rungs.record(trial, step, value)
    assert [one.judge(trial) for trial in TRIALS] == [other.judge(trial) for trial in TRIALS]


@pytest.mark.parametrize("seed", range(5))
def test_rebuilt_from_stored_values_it_decides_as_the_original(seed):
    """A search of four lanes, in which a second set of rungs is rebuilt from what was reported before every report."""
    rng = random.Random(seed)
    reports = range(5, 95, 5)
    original = Rungs(STEPS, 3, "min")
    stored: dict[int, dict[int, float]] = {}
    running: dict[int, int] = {}
    stopped = 0
    while len(stored) < 40 or running:
        while len(running) < 4 and len(stored) < 40:
            running[len(stored)], stored[len(stored)] = 0, {}
        trial = rng.choice(list(running))
        step, value = reports[running[trial]], rng.random()
        rebuilt = Rungs(STEPS, 3, "min")
        for number, values in sorted(stored.items()):
            for at, reported in values.items():
                rebuilt.record(number, at, reported)
        for rungs in (original, rebuilt):
            rungs.record(trial, step, value)
        stored[trial][step] = value
        decision = original.judge(trial)
        assert rebuilt.judge(trial) == decision
        running[trial] += 1
        if running[trial] == len(reports) or (decision is not None and not decision.go_on):
            stopped += running[trial] < len(reports)
            del running[trial]
    assert 20 < stopped < 40
