"""What a lane is given to do: an object that reports as it goes, and is told whether to go on.

This module imports neither torch nor ray: the board's process knows tasks too.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol


class TrialFailure(Exception):
    """The trial cannot succeed and every rank knows it (e.g. a non-finite loss): no retry, the lane goes on."""


@dataclass(frozen=True)
class Worker:
    """Where a task runs: its place in the lane's process group."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    places: int = 1
    """How many tasks its process works on at once, each in a thread."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is. Rank 0 has the metrics, and it alone may know that the report is the last."""

    step: int
    metrics: dict[str, float]
    last: bool


class Task(Protocol):
    """Work for one lane, plain data until it is run; it is pickled to get there."""

    @property
    def metric(self) -> str:
        """The metric that the lane's log shows."""

    def reports(self, worker: Worker) -> Generator[Progress]:
        """Do the work, on every rank: each `next` goes on to the following report, `close` ends it early.

        Raises:
            TrialFailure: on every rank.
        """
