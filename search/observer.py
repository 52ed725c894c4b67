"""Who is told of a search's trials."""

from __future__ import annotations

from spaces.study import Scalar


class Observer:
    """Hears of the trials' lives, to show them to a person; this one shows nothing."""

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None: ...
    def trial_reported(self, number: int, step: int, value: float) -> None: ...
    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None: ...
