"""Early stopping seen afterwards: how many trials each rung let through, and why trials were stopped or failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import inf
from statistics import median

from results.records import TrialRecord
from spaces.metrics import Mode, best

NO_REASON = "no reason recorded"


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of the trials at a rung, or at the last step.

    `came` reported at this step. `went_on` of them reported later or are COMPLETE. `stopped` were stopped from here on and
    before the next rung: with ASHA by comparison at this rung, at once or when it was repeated at a later report. `best` and
    `median` are of the objective at this step, None if no trial came.
    """

    step: int
    came: int
    went_on: int
    stopped: int
    best: float | None
    median: float | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a trial was stopped: the optimizer step at which it was, and the rule's words."""

    number: int
    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason for which trials failed, without the step at which they did, and their numbers."""

    reason: str
    trials: tuple[int, ...]


def survival(trials: Sequence[TrialRecord], steps: Sequence[int], mode: Mode) -> list[Survival]:
    """How many trials came to each of the steps, and how many went on.

    Args:
        steps: rising: the rungs, and the full budget's last step.
    """
    found = []
    for step, following in pairwise([*steps, inf]):
        there = {trial.number: value for trial in trials if (value := trial.at(int(step))) is not None}
        came = [trial for trial in trials if trial.number in there]
        found.append(
            Survival(
                step=int(step),
                came=len(came),
                went_on=sum(trial.state == "COMPLETE" or trial.history[-1][0] > step for trial in came),
                stopped=sum(trial.state == "PRUNED" and step <= trial.step < following for trial in trials),
                best=best(mode, there.values()) if there else None,
                median=median(there.values()) if there else None,
            )
        )
    return found


def stops(trials: Sequence[TrialRecord]) -> list[Stop]:
    """Every stopped trial's reason, in the order in which they were stopped."""
    stopped = [trial for trial in trials if trial.state == "PRUNED"]
    found = []
    for trial in sorted(stopped, key=lambda trial: (trial.ended or datetime.max, trial.number)):
        last = trial.decisions[-1] if trial.decisions and not trial.decisions[-1].go_on else None
        found.append(Stop(trial.number, trial.step, last.reason if last else NO_REASON))
    return found


def failures(trials: Sequence[TrialRecord]) -> list[Failure]:
    """Trials that failed, by reason: the most frequent first."""
    found: dict[str, list[int]] = {}
    for trial in trials:
        if trial.state == "FAIL":
            found.setdefault(_without_step(trial.failure or NO_REASON), []).append(trial.number)
    return [Failure(reason, tuple(numbers)) for reason, numbers in sorted(found.items(), key=lambda it: -len(it[1]))]


def _without_step(reason: str) -> str:
    """ "the loss became nan at step 400" is the same reason at step 600."""
    return re.sub(r" at step \d+", "", reason.strip().splitlines()[0])
