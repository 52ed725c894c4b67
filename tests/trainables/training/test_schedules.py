"""Schedules at known fractions of the budget."""

import math

import pytest

from trainables.training.schedules import ONE_CYCLE_END, ONE_CYCLE_START, kl_factor, learning_rate_factor


@pytest.mark.parametrize(
    ("schedule", "fraction", "factor"),
    [
        ("constant", 0.0, 1.0),
        ("linear", 0.0, 0.0),
        ("linear", 0.1, 0.5),
        ("linear", 0.2, 1.0),
        ("linear", 1.0, 1.0),
        ("cosine", 0.0, 0.0),
        ("cosine", 0.05, 0.1464466),
        ("cosine", 0.1, 0.5),
        ("cosine", 0.2, 1.0),
        # Two cycles of 0.1 each: a rise over 0.05, then full weight.
        ("cyclical", 0.0, 0.0),
        ("cyclical", 0.025, 0.5),
        ("cyclical", 0.075, 1.0),
        ("cyclical", 0.125, 0.5),
        ("cyclical", 0.19, 1.0),
        ("cyclical", 0.2, 1.0),
    ],
)
def test_kl_weight(schedule, fraction, factor):
    assert kl_factor(schedule, fraction, warmup=0.2, cycles=2) == pytest.approx(factor)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "cyclical"])
def test_without_warmup_the_kl_weight_is_full_from_the_first_step(schedule):
    assert kl_factor(schedule, 0.0, warmup=0.0, cycles=4) == 1.0


@pytest.mark.parametrize(
    ("schedule", "fraction", "factor"),
    [
        ("constant", 0.7, 1.0),
        ("cosine", 0.0, 1.0),
        ("cosine", 0.25, 0.8535534),
        ("cosine", 0.5, 0.5),
        ("cosine", 1.0, 0.0),
        ("one_cycle", 0.0, ONE_CYCLE_START),
        ("one_cycle", 0.1, (1 + ONE_CYCLE_START) / 2),
        ("one_cycle", 0.2, 1.0),
        ("one_cycle", 0.6, (1 + ONE_CYCLE_END) / 2),
        ("one_cycle", 1.0, ONE_CYCLE_END),
    ],
)
def test_learning_rate(schedule, fraction, factor):
    assert learning_rate_factor(schedule, fraction, warmup=0.2) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("fraction", "factor"),
    # After a rise over 0.1 three falls of 0.3 each.
    [
        (0.0, 0.0),
        (0.05, 0.5),
        (0.1, 1.0),
        (0.25, 0.5),
        (0.4 - 1e-9, 0.0),
        (0.4 + 1e-9, 1.0),
        (0.55, 0.5),
        (0.85, 0.5),
        (1.0, 0.0),
    ],
)
def test_cosine_with_restarts(fraction, factor):
    assert learning_rate_factor("cosine_restarts", fraction, warmup=0.1, cycles=3) == pytest.approx(factor, abs=1e-6)


def test_restarts_are_those_of_the_source_document():
    """Of 50,000 steps, 500 of warm-up, three cycles: the formula of transformers' cosine_with_restarts, which it names."""
    total, warmup, cycles = 50_000, 500, 3
    for step in {*range(0, total + 1, 9), total} - {
        17_000,
        33_500,
    }:  # at a restart itself rounding tells the sides apart
        progress = (step - warmup) / (total - warmup)
        falling = 0.5 * (1 + math.cos(math.pi * (cycles * progress % 1.0)))
        expected = step / warmup if step < warmup else falling if step < total else 0.0
        found = learning_rate_factor("cosine_restarts", step / total, warmup / total, cycles)
        assert found == pytest.approx(expected, abs=1e-9), step


def test_one_cycle_without_warmup_starts_at_its_peak():
    assert learning_rate_factor("one_cycle", 0.0, warmup=0.0) == 1.0
