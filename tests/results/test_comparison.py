"""Intervals against textbook ones and by simulation; verdicts on finalists whose order is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.comparison import Finalist, Interval, difference, estimate, verdict

S, P = 4, 50


def crossed(
    rng: np.random.Generator, seeds: int = S, positions: int = P, *, seed: float, position: float, noise: float
) -> np.ndarray:
    """Errors [S, P] about a mean of 1 with effects of seed, of position and of both, by their standard deviations."""
    return (
        1
        + seed * rng.normal(size=(seeds, 1))
        + position * rng.normal(size=(1, positions))
        + noise * rng.normal(size=(seeds, positions))
    )


def assert_interval(found: Interval, mean: float, interval: tuple[float, float]) -> None:
    assert (found.mean, found.low, found.high) == pytest.approx((mean, *interval), rel=1e-12)


@pytest.mark.parametrize(
    ("seed", "position", "noise"),
    [(0.1, 0.3, 0.2), (0.02, 0.5, 0.1), (0.3, 0.3, 0.3), (0.0, 0.0, 1.0)],
    ids=["both", "mostly positions", "mostly seeds", "interaction only"],
)
def test_an_interval_covers_the_true_mean_19_times_of_20(seed, position, noise):
    rng = np.random.default_rng(0)
    found = [estimate(crossed(rng, seed=seed, position=position, noise=noise)) for _ in range(400)]
    covered = np.mean([one.low <= 1 <= one.high for one in found])
    # Three standard errors of 400 draws below 0.95; above it the interaction that is counted twice, most of all alone.
    assert covered >= 0.92
    assert covered <= (0.995 if seed else 1.0)


def test_a_difference_covers_the_true_difference_and_positions_cancel():
    rng = np.random.default_rng(0)
    covered, widths, unpaired = [], [], []
    for _ in range(400):
        position = rng.normal(size=(1, P))
        a = crossed(rng, seed=0.1, position=0, noise=0.2) + position
        b = crossed(rng, seeds=3, seed=0.1, position=0, noise=0.2) + position - 0.5
        found = difference(a, b)
        covered.append(found.low <= 0.5 <= found.high)
        widths.append(found.high - found.low)
        unpaired.append(estimate(a).high - estimate(a).low)
    assert 0.92 <= np.mean(covered) <= 0.995
    assert np.mean(widths) < np.mean(unpaired)


def test_with_one_seed_it_is_the_t_interval_over_positions():
    errors = np.random.default_rng(0).normal(size=(1, P))
    assert_interval(
        estimate(errors), errors.mean(), stats.ttest_1samp(errors[0], 0).confidence_interval(confidence_level=0.95)
    )


def test_where_positions_do_not_differ_it_is_the_t_interval_over_seeds():
    means = np.array([1.0, 2.0, 4.0])  # exact in binary, so that the positions' variance is 0
    assert_interval(
        estimate(np.repeat(means[:, None], P, axis=1)), means.mean(), stats.ttest_1samp(means, 0).confidence_interval()
    )


def test_a_difference_with_one_seed_is_the_paired_t_interval():
    a, b = np.random.default_rng(0).normal(size=(2, 1, P))
    assert_interval(difference(a, b), (a - b).mean(), stats.ttest_rel(a[0], b[0]).confidence_interval())


def test_a_difference_where_positions_do_not_differ_is_welchs_interval():
    a, b = np.array([1.0, 2.0, 4.0, 5.0]), np.array([2.0, 8.0])
    assert_interval(
        difference(np.repeat(a[:, None], P, axis=1), np.repeat(b[:, None], P, axis=1)),
        a.mean() - b.mean(),
        stats.ttest_ind(a, b, equal_var=False).confidence_interval(),
    )


def test_without_variance_the_interval_is_the_mean():
    assert estimate(np.full((3, 4), 0.25)) == Interval(mean=0.25, low=0.25, high=0.25)
    assert difference(np.full((3, 4), 0.25), np.full((1, 4), 0.5)) == Interval(mean=-0.25, low=-0.25, high=-0.25)


def test_an_interval_ends_where_errors_do():
    errors = np.array([[0.1, 0.9]])  # whose t interval is 0.5 +- 5.08
    low, high = stats.ttest_1samp(errors[0], 0).confidence_interval()
    assert_interval(estimate(errors), 0.5, (low, high))
    assert_interval(estimate(errors, least=0.0), 0.5, (0.0, high))


@pytest.mark.parametrize("scale", [1e-150, 1e100])
def test_an_interval_scales_with_its_unit(scale):
    errors = crossed(np.random.default_rng(0), seed=0.1, position=0.3, noise=0.2)
    plain, scaled = estimate(errors), estimate(errors * scale)
    assert (scaled.mean, scaled.low, scaled.high) == pytest.approx(
        (plain.mean * scale, plain.low * scale, plain.high * scale)
    )


def test_a_difference_is_antisymmetric():
    rng = np.random.default_rng(0)
    a = crossed(rng, seed=0.1, position=0.3, noise=0.2)
    b = crossed(rng, seeds=2, seed=0.1, position=0.3, noise=0.2)
    forth, back = difference(a, b), difference(b, a)
    assert (forth.mean, forth.low, forth.high) == (-back.mean, -back.high, -back.low)


def test_errors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="at the same positions, but got 5 and 4"):
        difference(np.ones((2, 5)), np.ones((2, 4)))
    for shape in [(5,), (0, 5), (2, 1)]:
        with pytest.raises(ValueError, match="two positions or more"):
            estimate(np.ones(shape))


def finalist(number: int, mean: float, size: int, seeds: int = S, spread: float = 0.1) -> Finalist:
    """Errors of exactly this mean, which vary by `spread` over seeds and, alike for all finalists, over positions."""
    position = np.random.default_rng(0).normal(size=(1, P))
    seed = np.random.default_rng(number).normal(size=(seeds, 1))
    errors = position + spread * seed
    return Finalist(number, errors - errors.mean() + mean, size)


def test_a_clear_best_wins_whatever_its_size():
    found = verdict([finalist(3, 2.0, 1_000_000), finalist(12, 1.0, 9_000_000), finalist(7, 3.0, 2_000_000)])
    assert (found.winner, found.best, found.tied) == (12, 12, ())
    assert found.text == "trial 12 is the winner: better than every other finalist"


def test_of_two_that_are_tied_the_smaller_wins():
    found = verdict([finalist(12, 1.0, 3_400_000), finalist(7, 2.0, 1_000), finalist(3, 1.01, 1_200_000)])
    assert (found.winner, found.best, found.tied) == (3, 12, (3,))
    assert found.text == "trials 3 and 12 are tied within noise: take the smaller, 3 (1.2 MB against 3.4 MB)"


def test_of_three_that_are_tied_the_smallest_wins():
    found = verdict([finalist(3, 1.01, 1_200_000), finalist(7, 1.02, 2_000_000), finalist(12, 1.0, 3_400_000)])
    assert (found.winner, found.best, found.tied) == (3, 12, (3, 7))
    assert found.text == (
        "trials 3, 7 and 12 are tied within noise: take the smallest, 3 (1.2 MB against 2 MB and 3.4 MB)"
    )


def test_of_equal_sizes_the_better_mean_wins_then_the_lower_number():
    found = verdict([finalist(3, 1.01, 1_200_000), finalist(12, 1.0, 1_200_000)])
    assert (found.winner, found.best, found.tied) == (12, 12, (3,))
    assert found.text == ("trials 3 and 12 are tied within noise and equal in size (1.2 MB): take 12, of the best mean")
    found = verdict([finalist(3, 1.02, 12_000), finalist(7, 1.01, 12_000), finalist(12, 1.0, 34_000)])
    assert (found.winner, found.best) == (7, 12)
    assert found.text.endswith(": take 7, of the best mean among the smallest (0.012 MB against 0.034 MB)")
    same = finalist(5, 1.0, 10).errors
    assert verdict([Finalist(5, same, 10), Finalist(2, same, 10)]).winner == 2


def test_means_that_are_not_alike_are_no_tie_however_wide_the_interval():
    wide = [
        Finalist(12, np.array([[1.0] * P, [1.1] * P]), 9_000_000),
        Finalist(3, np.array([[1.1] * P, [1.4] * P]), 10),
    ]
    found = verdict(wide)
    assert (found.winner, found.best, found.tied) == (12, 12, ())
    assert found.text == "trial 12 has the best mean, but these seeds do not tell it apart from trial 3"


def test_of_a_metric_to_be_maximised_the_largest_mean_is_the_best():
    finalists = [finalist(3, 40.0, 3_000_000), finalist(7, 40.01, 5_000_000), finalist(12, 30.0, 1_000_000)]
    found = verdict(finalists, mode="max")
    assert (found.winner, found.best, found.tied) == (3, 7, (3,))
    assert verdict(finalists).winner == 12


def test_one_finalist_wins():
    found = verdict([finalist(4, 1.0, 10)])
    assert (found.winner, found.best, found.tied) == (4, 4, ())
    assert found.text == "trial 4 is the only finalist"
    assert verdict([finalist(4, 1.0, 10, seeds=1)]).text == (
        "trial 4 is the only finalist; one training seed cannot tell the noise between seeds"
    )


def test_one_seed_is_said_to_tell_nothing_of_seeds():
    pair = [finalist(3, 1.0, 10, seeds=1), finalist(12, 2.0, 10, seeds=1)]
    assert verdict(pair).text == (
        "trial 3 is the winner: better than every other finalist; "
        "one training seed each cannot tell the noise between seeds"
    )
    assert verdict([*pair, finalist(5, 3.0, 10)]).text.endswith(
        "; one training seed of each of trials 3 and 12 cannot tell the noise between seeds"
    )
    assert verdict([pair[0], finalist(5, 3.0, 10)]).text.endswith(
        "; one training seed of trial 3 cannot tell the noise between seeds"
    )
