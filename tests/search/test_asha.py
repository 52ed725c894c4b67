"""Rung decisions of asynchronous successive halving."""

import random

import pytest

from search.asha import Rungs


def test_the_first_trial_at_a_rung_goes_on_until_it_has_better_rivals():
    rungs = Rungs([10], 3, "min")
    assert rungs.record(0, 10, 5.0)
    assert rungs.record(0, 20, 4.0)
    assert rungs.record(1, 10, 3.0)
    assert not rungs.record(2, 10, 6.0)
    assert not rungs.record(0, 30, 0.1)  # judged at the rung, by its value there
    assert rungs.record(1, 20, 2.0)


def test_with_rivals_a_pass_is_for_good():
    rungs = Rungs([10], 3, "min")
    for trial in range(3):
        rungs.record(trial, 10, 5.0 + trial)
    assert rungs.record(3, 10, 4.0)
    for trial in range(4, 9):
        rungs.record(trial, 10, 1.0)
    assert rungs.record(3, 20, 3.0)


def test_one_in_reduction_factor_goes_on():
    rungs = Rungs([10], 3, "min")
    for trial in range(6):
        rungs.record(trial, 10, float(trial))  # 0 is the best
    assert not rungs.record(6, 10, 2.5)  # 7 // 3 = 2 places, and trials 0, 1, 2 are better
    assert rungs.record(7, 10, 0.5)  # second of eight


def test_between_rungs_every_trial_goes_on():
    rungs = Rungs([10], 3, "min")
    rungs.record(0, 10, 0.0)
    assert rungs.record(1, 9, 100.0)
    assert not rungs.record(1, 10, 100.0)


def test_max_mode_is_min_mode_of_the_negative():
    values = [random.Random(7).uniform(-1, 1) for _ in range(40)]
    least, most = Rungs([1], 4, "min"), Rungs([1], 4, "max")
    assert [least.record(i, 1, v) for i, v in enumerate(values)] == [
        most.record(i, 1, -v) for i, v in enumerate(values)
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_value_ends_the_trial_and_is_not_ranked(value):
    rungs = Rungs([5, 10], 3, "min")
    assert not rungs.record(0, 10, value)
    assert rungs.record(1, 10, 1e9)  # the first that counts


def test_exempt_trials_are_ranked_but_never_stopped():
    rungs = Rungs([10], 3, "min", exempt=[0])
    rungs.record(1, 10, 1.0)
    assert rungs.record(0, 10, 9.0)
    assert not rungs.record(2, 10, 9.5)


def test_a_retried_trial_is_judged_by_its_first_value():
    rungs = Rungs([10], 2, "min")
    rungs.record(0, 10, 1.0)
    rungs.record(1, 10, 0.5)
    assert not rungs.record(2, 10, 2.0)
    assert not rungs.record(2, 10, 0.0)


def test_about_one_in_reduction_factor_passes_in_the_long_run():
    rng = random.Random(0)
    rungs = Rungs([10], 3, "min")
    passed = sum(rungs.record(trial, 10, rng.random()) for trial in range(3000))
    assert 0.30 < passed / 3000 < 0.37
