"""A run's quota of disk space for checkpoints (`resources.checkpoints_gb`): past it, those of ended trials are deleted.

Nobody asks for most of them again: running and waiting trials go on from theirs, and finalists are trained anew. They go in
this order, until the rest is within the quota:

1. `last`, and what killed writers left; the trial that ended first, first
2. the older one of two `best`, in the same order
3. `best`: failed trials first, then the trial with the worst objective

Kept whatever the quota: all of running and waiting trials, of the best COMPLETE ones, as many as finalists and at least one,
of trial 0, whose own training is judged in the finals, and of the finalists' own trainings.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from optuna.trial import FrozenTrial

from results.analysis import ranked
from results.records import TrialRecord, trial_record
from search.ledger import Ledger
from search.observer import Observer
from search.trial import TrialSettings
from trainables.training.stored import Stored, stored_checkpoints

logger = logging.getLogger(__name__)

GB = 1e9
SETTLING = 60.0
"""Seconds after a trial's end for which its lane may still be writing: it saves the best model of a trial that is stopped."""


@dataclass(slots=True)
class _Ended:
    """A trial that has ended."""

    record: TrialRecord
    folder: Path
    settles: float
    """When nobody writes to the folder any more, of `time.monotonic`."""
    stored: list[Stored]
    """As last seen."""
    settled: bool = False


class Quota(Observer):
    """Enforces the quota each time a trial has ended. What cannot be read or deleted is said once, and left.

    Looks through the folders of all ended trials and finalists when it is made; after that only through those of
    the trials that run, wait or have ended a moment ago.

    Args:
        settings: whose directory, objective, finalists and quota.
        said: told of trouble.
    """

    def __init__(self, settings: TrialSettings, ledger: Ledger, said: Callable[[str], None]) -> None:
        self._directory = settings.directory
        self._limit = settings.study.resources.checkpoints_gb
        self._finalists = max(1, settings.budget.finalists)
        self._mode = settings.study.objective.mode
        self._ledger = ledger
        self._said = said
        self._warnings: set[str] = set()
        self._ended: dict[int, _Ended] = {}
        """By number, in the order in which they ended."""
        for trial in sorted(filter(_has_ended, ledger.trials), key=_ended_at):
            self._add(trial, settling=0.0)  # its lane ended with the search of then
        self._look()

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        self._add(self._ledger.trial(number), settling=SETTLING)
        self.enforce()

    def enforce(self) -> None:
        """Delete as much as the quota asks for, or, failing that, as may be."""
        self._look()
        running = [self._directory.checkpoints(trial.number) for trial in self._ledger.trials if not _has_ended(trial)]
        finals = self._directory.finalists.glob("*/checkpoints")
        total = sum(_size(self._stored(folder)) for folder in [*running, *finals])
        total += sum(_size(trial.stored) for trial in self._ended.values())
        excess = before = total - int(GB * self._limit)
        if excess <= 0:
            return
        for trial, checkpoint in self._expendable():
            try:
                checkpoint.delete()
            except OSError as error:
                self._warn(f"{trial.folder}: a checkpoint cannot be deleted: {error.strerror or error}")
                continue
            trial.stored.remove(checkpoint)
            excess -= checkpoint.bytes
            if excess <= 0:
                break
        if excess < before:
            logger.info("checkpoints are held to %g GB: %.3g GB deleted", self._limit, (before - excess) / GB)
        if excess > 0:
            self._warn(
                f"checkpoints take more than resources.checkpoints_gb={self._limit:g}: what is left, of running trials, "
                "the best ones, the documents' values and the finals, is kept"
            )

    def _expendable(self) -> Iterator[tuple[_Ended, Stored]]:
        complete = [trial.record for trial in self._ended.values() if trial.record.state == "COMPLETE"]
        kept = {0, *(record.number for record in ranked(complete, self._mode)[: self._finalists])}
        trials = [trial for number, trial in self._ended.items() if number not in kept and trial.stored]
        for trial in trials:
            yield from ((trial, one) for one in list(trial.stored) if one.complete and one.kind == "last")
            if trial.settled:  # else it may be about to be complete
                yield from ((trial, one) for one in list(trial.stored) if not one.complete)
        for trial in trials:
            yield from ((trial, one) for one in _best(trial)[:-1])
        place = {record.number: rank for rank, record in enumerate(ranked([t.record for t in trials], self._mode))}
        for trial in sorted(trials, key=lambda trial: place.get(trial.record.number, math.inf), reverse=True):
            yield from ((trial, one) for one in _best(trial))

    def _add(self, trial: FrozenTrial, settling: float) -> None:
        folder = self._directory.checkpoints(trial.number)
        self._ended[trial.number] = _Ended(trial_record(trial), folder, time.monotonic() + settling, [])

    def _look(self) -> None:
        """See what there is of the trials that were not settled when last looked at."""
        now = time.monotonic()
        for trial in self._ended.values():
            if not trial.settled:
                trial.settled = now >= trial.settles
                trial.stored = self._stored(trial.folder)

    def _stored(self, folder: Path) -> list[Stored]:
        try:
            return stored_checkpoints(folder)
        except OSError as error:
            self._warn(f"{folder}: cannot be read: {error.strerror or error}; its checkpoints are not counted")
            return []

    def _warn(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            self._said(f"warning: {text}")


def _size(stored: Iterable[Stored]) -> int:
    return sum(one.bytes for one in stored)


def _best(trial: _Ended) -> list[Stored]:
    return [one for one in trial.stored if one.kind == "best" and one.complete]


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state.is_finished()


def _ended_at(trial: FrozenTrial) -> datetime:
    assert trial.datetime_complete is not None
    return trial.datetime_complete
