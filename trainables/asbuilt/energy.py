"""Whether two samples come from one distribution: their energy distance (Szekely & Rizzo 2013)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import energy_distance

RESAMPLED = 199
SEED = 0


class EnergyDistance(NamedTuple):
    """Of two samples of one quantity, in the root of its unit.

    `low` and `high` bound the middle 95 % of bootstrap samples; all of them are above 0, also where both are the same. `p` is the
    share of random divisions of all values in two that lie at least as far apart: small where the samples differ.
    """

    distance: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, some: NDArray[np.floating], others: NDArray[np.floating]) -> EnergyDistance:
        """Samples [n] and [m]."""
        random = np.random.default_rng(SEED)
        distance, both = energy_distance(some, others), np.concatenate([some, others])
        mixed = [random.permutation(both) for _ in range(RESAMPLED)]
        larger = sum(energy_distance(one[: len(some)], one[len(some) :]) >= distance for one in mixed)
        again = [
            energy_distance(random.choice(some, len(some)), random.choice(others, len(others)))
            for _ in range(RESAMPLED)
        ]
        low, high = np.quantile(again, [0.025, 0.975])
        return cls(float(distance), float(low), float(high), (1 + larger) / (1 + RESAMPLED))
