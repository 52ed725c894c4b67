"""Schedules as pure functions of the fraction of the full budget that is done, in [0, 1].

They depend on the full budget and never on where a trial is stopped, so that two trials at one rung have had the same
schedule.
"""

from __future__ import annotations

import math
from typing import Literal

# One-cycle starts at 1/25 and ends at 1/1000 of the peak (Smith & Topin 2018 start at 1/10 to 1/25).
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = 1 / 1000


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


def kl_factor(
    schedule: Literal["constant", "linear", "cosine", "cyclical"], fraction: float, warmup: float, cycles: int
) -> float:
    """Factor in [0, 1] on the KL weight; 1 from `warmup` (a fraction of the budget) on.

    `linear` and `cosine` rise from 0 once; `cyclical` splits the warm-up into `cycles` parts that each rise linearly over
    their first half and hold 1 over the second (Fu et al. 2019).
    """
    if schedule == "constant" or fraction >= warmup:
        return 1.0
    done = fraction / warmup
    if schedule == "linear":
        return done
    if schedule == "cosine":
        return _cosine(0.0, 1.0, done)
    return min(1.0, 2 * (done * cycles % 1.0))


def learning_rate_factor(
    schedule: Literal["constant", "cosine", "cosine_restarts", "one_cycle"],
    fraction: float,
    warmup: float,
    cycles: int = 1,
) -> float:
    """Factor in [0, 1] on the learning rate.

    `cosine` falls from 1 to 0; `cosine_restarts` rises linearly over `warmup` (a fraction of the budget), then falls `cycles`
    times, each in an equal part of the rest (Loshchilov & Hutter 2017, T_mult = 1); `one_cycle` rises over `warmup`, then
    falls once, both along half a cosine.
    """
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        return _cosine(1.0, 0.0, fraction)
    if schedule == "cosine_restarts":
        if fraction < warmup:
            return fraction / warmup
        done = cycles * (fraction - warmup) / (1 - warmup)
        return _cosine(1.0, 0.0, done % 1.0 if done < cycles else 1.0)
    if fraction < warmup:
        return _cosine(ONE_CYCLE_START, 1.0, fraction / warmup)
    return _cosine(1.0, ONE_CYCLE_END, (fraction - warmup) / (1 - warmup))
