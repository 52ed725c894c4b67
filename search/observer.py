"""Who is told of a search's course."""

from __future__ import annotations

from collections.abc import Mapping

from spaces.study import Scalar


class Observer:
    """Hears of a search's course, such as to show it to a person; this one does nothing. Lines are for people."""

    def note(self, text: str) -> None:
        """What goes on now, between the phases."""

    def say(self, text: str) -> None:
        """Something to keep, such as a warning."""

    def prepared(self, done: int, total: int, rate: str) -> None:
        """How far the data is that has to be made, in items."""

    def search_started(self, ended_before: int, lanes: int, complete: Mapping[int, float]) -> None:
        """Trials begin; `ended_before` of them ended before this process (resume), the complete ones with these values."""

    def lanes_changed(self, line: str, lanes: int) -> None:
        """A lane is lost or has been added, so that there are so many now; called from any thread."""

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None: ...
    def trial_reported(self, number: int, step: int, value: float) -> None: ...
    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None: ...


class Observers(Observer):
    """Tells several of the trials, in their order."""

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
