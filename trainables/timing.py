"""Time of a call on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST_CALLS, LONG = 3, 0.3
"""Calls that are timed, and seconds for which short ones go on."""


def fastest[Result](call: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns, and wall-clock seconds of the fastest of several: the first allocates, others share the machine."""
    seconds: list[float] = []
    end = time.perf_counter() + LONG
    while len(seconds) < LEAST_CALLS or time.perf_counter() < end:
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return result, min(seconds)
