"""Who is told of a search's trials."""

from __future__ import annotations

from spaces.study import Scalar


class Observer:
    """Hears of the trials' lives, such as to show them to a person; this one does nothing."""

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None: ...
    def trial_reported(self, number: int, step: int, value: float) -> None: ...
    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None: ...


class Observers(Observer):
    """Passes everything on to several, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None:
        for one in self._observers:
            one.trial_started(number, params)

    def trial_reported(self, number: int, step: int, value: float) -> None:
        for one in self._observers:
            one.trial_reported(number, step, value)

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        for one in self._observers:
            one.trial_ended(number, state, step, value, reason)
