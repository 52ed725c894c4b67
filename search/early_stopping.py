"""What early stopping decides, and what a rule of it must offer; search/scheduler.py names the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a trial goes on, and why, in words. `rung` is the step whose values were compared."""

    go_on: bool
    rung: int
    reason: str


class Rule(Protocol):
    """When to stop a trial; trials are known by their study number, time by their step."""

    def record(self, trial: int, step: int, value: float) -> None:
        """Note a trial's value."""

    def judge(self, trial: int) -> Decision | None:
        """Whether a trial that has just reported goes on; None if there is nothing to decide."""
