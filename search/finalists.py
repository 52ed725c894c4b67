"""The best trials of a search and the reference, trained again with fresh seeds.

A trial that scored lowest once was good, or lucky. Trained again it shows which.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from results.analysis import ranked
from results.records import TrialRecord
from results.run_directory import RunDirectory
from search.observer import Observer
from search.trial import TrialSettings
from spaces.study import Budget, Study
from trainables.lanes.board import Assignment, Report
from trainables.lanes.lanes import Lanes
from trainables.training.checkpoints import Checkpoint, load_checkpoint


@dataclass(frozen=True)
class Candidate:
    """A trial to be judged; its trainings by fresh seed, None: the search's own."""

    trial: TrialRecord
    trainings: tuple[int | None, ...]
    rival: bool = True
    """It may win; else it is only compared with."""

    def checkpoints(self, directory: RunDirectory, seed: int | None) -> Path:
        number = self.trial.number
        return directory.checkpoints(number) if seed is None else directory.finalist(number, seed) / "checkpoints"

    def best(self, directory: RunDirectory, seed: int | None) -> Checkpoint | None:
        """Its best checkpoint, chosen on the validation positions; None if that training did not come to its end."""
        return load_checkpoint(self.checkpoints(directory, seed), "best") if self.ended(directory, seed) else None

    def ended(self, directory: RunDirectory, seed: int | None) -> bool:
        """Whether a training made its last report; those of the search did."""
        last = load_checkpoint(self.checkpoints(directory, seed), "last") if seed is not None else None
        return seed is None or (last is not None and last.ended)


def candidates(trials: list[TrialRecord], study: Study, budget: Budget) -> list[Candidate]:
    """The finalists, best first, and after them the reference if they are not among them.

    Only trials that had the full budget can win. Of the reference, which nobody selected, the search's own training
    counts; of the others it does not, since they are finalists for having come out well in it. Without finals
    (`finalists: 0`) the best trial's does.
    """
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    best = ranked(complete, study.objective.mode)[: max(1, budget.finalists)]
    fresh = tuple(range(budget.finalist_seeds)) if budget.finalists else (None,)
    found = [Candidate(trial, _own(trial, fresh)) for trial in best]
    if not any(trial.recommended for trial in best):
        found += [
            Candidate(trial, _own(trial, fresh)[: budget.reference_seeds], rival=False)
            for trial in complete
            if trial.recommended
        ]
    return found


def _own(trial: TrialRecord, fresh: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (None, *fresh[1:]) if trial.recommended else fresh


def train_finalists(
    found: list[Candidate],
    settings: TrialSettings,
    lanes: Lanes,
    observer: Observer,
    ended: Callable[[], None],
) -> None:
    """Train what is not trained yet; a training goes on from its checkpoint. One that fails is said, and left out.

    So is a search's own training that is to be judged and has no checkpoint any more.

    Args:
        observer: hears of each training, and how it came out.
        ended: called after each.
    """
    for candidate in found:
        if None in candidate.trainings and candidate.best(settings.directory, None) is None:
            where = candidate.checkpoints(settings.directory, None)
            observer.say(
                f"warning: {where}: no valid best checkpoint; trial {candidate.trial.number} is judged without it, if at all"
            )
    wanted = [
        (candidate, seed)
        for index in range(settings.budget.finalist_seeds)  # every finalist's first seed, then every second, ...
        for candidate in found
        if index < len(candidate.trainings) and (seed := candidate.trainings[index]) is not None
    ]
    assignments: dict[str, tuple[Assignment, Candidate, int]] = {}
    for candidate, seed in wanted:
        if candidate.ended(settings.directory, seed):
            continue
        number, params = candidate.trial.number, candidate.trial.params
        task, name = settings.of_finalist(number, params, seed), f"trial {number} with fresh seed {seed}"
        assignment = Assignment(uuid.uuid4().hex, -1 - len(assignments), task, name)
        assignments[assignment.attempt] = (assignment, candidate, seed)
    if not assignments:
        return
    settings.directory.summary.unlink(missing_ok=True)  # of a run that had other finalists: no longer the end
    observer.say(f"training finalists: {len(assignments)} runs of {settings.budget.steps} steps")
    done, started = 0, set[str]()

    def reported(assignment: Assignment, report: Report) -> None:
        nonlocal done
        _, candidate, seed = assignments[assignment.attempt]
        number = candidate.trial.number
        if assignment.attempt not in started:
            started.add(assignment.attempt)
            observer.finalist_started(number, seed, candidate.trial.params)
        if report.failure is None:
            observer.finalist_reported(number, seed, report.step, report.metrics)
        if report.last:
            observer.finalist_ended(number, seed, report.failure)
            done += 1
            value = report.metrics.get(settings.study.objective.metric)
            outcome = (
                f"failed: {report.failure}" if report.failure else f"{settings.study.objective.metric} {value:.4g}"
            )
            ended()
            observer.say(f"finals {done}/{len(assignments)}: {assignment}: {outcome}")

    lanes.train([assignment for assignment, _, _ in assignments.values()], reported)
