"""Which checkpoints stay on disk: a trial's `last` goes when it has ended, and only the best trials keep their `best`.

Nobody asks for the others again: running and waiting trials go on from theirs, and finalists are trained anew. Those of as
many COMPLETE trials as there are finalists stay, at least one, and those of trial 0, whose own training is judged in the finals.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from results.analysis import ranked
from results.records import TrialRecord, trial_record
from search.ledger import Ledger
from search.observer import Observer
from search.trial import TrialSettings
from trainables.training.stored import Stored, stored_checkpoints

SETTLING = 600.0
"""Seconds after a trial's end for which its lane may still be writing: it hears of the end at its next report."""

RECENT = 32
"""Trials, the last that ended, into whose folders a trial's end looks: with a thousand lanes it would be thousands else."""


class Quota(Observer):
    """Deletes what is not to stay each time a trial has ended. What cannot be read or deleted is said once, and left.

    Args:
        settings: whose directory, objective and number of finalists.
        said: told of trouble.
    """

    def __init__(self, settings: TrialSettings, ledger: Ledger, said: Callable[[str], None]) -> None:
        self._directory = settings.directory
        self._best = max(1, settings.budget.finalists)
        self._mode = settings.study.objective.mode
        self._ledger = ledger
        self._said = said
        self._warnings: set[str] = set()
        # Trials that have ended and may have something to delete, now or later -> when nobody writes there any more, of
        # `time.monotonic`. The lanes of those that are there already ended with the search of then.
        self._watched = {trial.number: 0.0 for trial in ledger.trials if trial.state.is_finished()}
        self._complete: dict[int, TrialRecord] = {}
        self._kept_before: set[int] = set()

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        kept, now = self._kept(), time.monotonic()
        self._watched[number] = now + SETTLING
        due = {*list(self._watched)[-RECENT:], *(self._kept_before - kept)}
        due |= {one for one, settles in self._watched.items() if settles <= now}
        self._clear(due & self._watched.keys(), kept, now)

    def enforce(self) -> None:
        """Delete what is not to stay."""
        self._clear(set(self._watched), self._kept(), time.monotonic())

    def _clear(self, numbers: set[int], kept: set[int], now: float) -> None:
        self._kept_before = kept
        for number in numbers:
            settles = self._watched[number]
            for one in self._stored(number):
                if (one.complete or settles <= now) and not (one.complete and one.kind == "best" and number in kept):
                    self._delete(one)
            if settles <= now and number not in kept:
                del self._watched[number]

    def _kept(self) -> set[int]:
        """Trials whose `best` stays."""
        for trial in self._ledger.trials:
            if trial.state.name == "COMPLETE" and trial.number not in self._complete:
                self._complete[trial.number] = trial_record(trial)
        return {0, *(record.number for record in ranked([*self._complete.values()], self._mode)[: self._best])}

    def _stored(self, number: int) -> list[Stored]:
        folder = self._directory.checkpoints(number)
        try:
            return stored_checkpoints(folder)
        except OSError as error:
            self._warn(f"{folder}: cannot be read: {error.strerror or error}; its checkpoints stay")
            return []

    def _delete(self, one: Stored) -> None:
        try:
            one.delete()
        except OSError as error:
            self._warn(f"{one.files[0].parent}: a checkpoint cannot be deleted: {error.strerror or error}")

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            self._said(f"warning: {text}")
