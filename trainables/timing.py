"""Time of a call on this machine's CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def fastest[Result](call: Callable[[], Result]) -> tuple[Result, float]:
    """What a call returns, and wall-clock seconds of the fastest of three: the first allocates, others share the machine."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - began)
    return result, min(seconds)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread of the CPU meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
