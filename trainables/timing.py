"""Time of a call on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

LEAST_CALLS, LONG = 3, 0.3
"""Calls that are timed, and seconds for which short ones go on."""


class Timer(Protocol):
    """Calls something; its result and its wall-clock seconds."""

    def __call__[Result](self, call: Callable[[], Result], /) -> tuple[Result, float]: ...


def once[Result](call: Callable[[], Result], /) -> tuple[Result, float]:
    """What a call returns, and its seconds."""
    began = time.perf_counter()
    return call(), time.perf_counter() - began


def fastest[Result](call: Callable[[], Result], /) -> tuple[Result, float]:
    """What a call returns, and wall-clock seconds of the fastest of several: the first allocates, others share the machine."""
    seconds: list[float] = []
    end = time.perf_counter() + LONG
    while len(seconds) < LEAST_CALLS or time.perf_counter() < end:
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return result, min(seconds)


def shares(seconds: float, least: int) -> Iterator[float]:
    """For each step of something that shall take so many wall-clock seconds, and so many steps at the least: the share that is done, from
    0 to below 1."""
    began, step, share = time.perf_counter(), 0, 0.0
    while share < 1:
        yield share
        step += 1
        share = min((time.perf_counter() - began) / seconds, step / least)
