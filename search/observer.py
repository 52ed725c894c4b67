"""Who is told of a search's course."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from results.run_directory import RunDirectory
from spaces.study import Scalar


class Observer:
    """Hears of a search's course, such as to show it to a person; this one does nothing. Lines are for people."""

    def note(self, text: str) -> None:
        """What goes on now, between the phases."""

    def say(self, text: str) -> None:
        """Something to keep, such as a warning."""

    def prepared(self, done: int, total: int, rate: str) -> None:
        """How far the data is that has to be made, in items."""

    def search_started(self, ended_before: int, lanes: int, complete: Mapping[int, float], places: int) -> None:
        """Trials begin, on lanes of so many places; `ended_before` of them ended before this process (resume), the complete ones with these values."""

    def lanes_changed(self, line: str, lanes: int) -> None:
        """A lane is lost or has been added, so that there are so many now; called from any thread."""

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None: ...
    def trial_reported(self, number: int, step: int, value: float, metrics: Mapping[str, float]) -> None:
        """A trial's objective at a step, and all that it reports."""

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None: ...

    def finalist_started(self, number: int, seed: int, params: dict[str, Scalar]) -> None:
        """A training of a finalist, with a fresh seed."""

    def finalist_reported(self, number: int, seed: int, step: int, metrics: Mapping[str, float]) -> None: ...
    def finalist_ended(self, number: int, seed: int, failure: str | None) -> None: ...

    def search_ended(self, directory: RunDirectory) -> None:
        """The winner is judged and exported, and the run has its summary."""


class Notes(Observer):
    """Prints on standard error what goes on now, of a command without a display."""

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)


class Observers(Observer):
    """Tells several, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def note(self, text: str) -> None:
        for one in self._observers:
            one.note(text)

    def say(self, text: str) -> None:
        for one in self._observers:
            one.say(text)

    def prepared(self, done: int, total: int, rate: str) -> None:
        for one in self._observers:
            one.prepared(done, total, rate)

    def search_started(self, ended_before: int, lanes: int, complete: Mapping[int, float], places: int) -> None:
        for one in self._observers:
            one.search_started(ended_before, lanes, complete, places)

    def lanes_changed(self, line: str, lanes: int) -> None:
        for one in self._observers:
            one.lanes_changed(line, lanes)

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None:
        for one in self._observers:
            one.trial_started(number, params)

    def trial_reported(self, number: int, step: int, value: float, metrics: Mapping[str, float]) -> None:
        for one in self._observers:
            one.trial_reported(number, step, value, metrics)

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        for one in self._observers:
            one.trial_ended(number, state, step, value, reason)

    def finalist_started(self, number: int, seed: int, params: dict[str, Scalar]) -> None:
        for one in self._observers:
            one.finalist_started(number, seed, params)

    def finalist_reported(self, number: int, seed: int, step: int, metrics: Mapping[str, float]) -> None:
        for one in self._observers:
            one.finalist_reported(number, seed, step, metrics)

    def finalist_ended(self, number: int, seed: int, failure: str | None) -> None:
        for one in self._observers:
            one.finalist_ended(number, seed, failure)

    def search_ended(self, directory: RunDirectory) -> None:
        for one in self._observers:
            one.search_ended(directory)
