"""Energy distances against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.asbuilt.energy import EnergyDistance


def test_two_points_are_apart_by_the_root_of_twice_their_distance():
    # 2 E|X - Y| - E|X - X'| - E|Y - Y'| = 2 * 3.
    found = EnergyDistance.of(np.zeros(20), np.full(20, 3.0))
    assert found.distance == pytest.approx(math.sqrt(6))
    assert found.low == found.high == pytest.approx(math.sqrt(6))
    assert found.p == pytest.approx(1 / 200)


def test_samples_of_one_distribution_are_not_told_apart_and_of_two_are():
    random = np.random.default_rng(0)
    some, same, shifted = random.normal(size=80), random.normal(size=120), random.normal(1.0, size=120)
    assert EnergyDistance.of(some, same).p > 0.05
    apart = EnergyDistance.of(some, shifted)
    assert apart.p < 0.01
    assert apart.low < apart.distance < apart.high
