"""What of torch the threads of a process share: how many of them it computes with, and the global random numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_DRAWING = threading.RLock()


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: processes are the parallelism, sums keep their order only then, and times compare with others'."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """For what takes no generator of its own: the CPU's global one starts from `seed`, and afterwards is what it was.

    One thread at a time is in here, so that none draws another's numbers.
    """
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
