"""What another run's trials have to say to this one's sampler."""

from __future__ import annotations

import math
from typing import Any

from optuna.trial import FrozenTrial, create_trial

from results.distributions import distributions
from results.records import read_trials
from results.run_directory import RunDirectory, read_json, write_json
from search.sampler import MODELS, at_levels, fair_ranks, share
from spaces.errors import SpaceError
from spaces.frozen import Frozen
from spaces.study import Study


class EarlierTrial(Frozen):
    """A trial of the other run; `rank` is its fair rank there, 0 the best, `violations` are of this run's constraints."""

    params: dict[str, Any]
    rank: int
    violations: dict[str, float] = {}


class WarmStart(Frozen):
    """Trials of the run `source`, copied, so that this run stands alone."""

    source: str
    trials: tuple[EarlierTrial, ...]

    def experience(self, study: Study) -> list[FrozenTrial]:
        """The trials by the parameters that both runs search; those outside this run's ranges are left out.

        Each has as its value its rank's share, and a negative number: it is older than any trial of this run.
        """
        ranges = distributions(study)
        trials = []
        for earlier in self.trials:
            shared = {name: value for name, value in earlier.params.items() if name in ranges}
            if not shared:
                continue
            try:
                trial = create_trial(
                    params=shared,
                    distributions={name: ranges[name] for name in shared},
                    value=share(earlier.rank, len(self.trials)),
                    constraints=earlier.violations,
                )
            except ValueError:  # outside
                continue
            trials.append(trial)
        for index, trial in enumerate(trials):
            trial.number = index - len(trials)
        return trials


def warm_start(source: RunDirectory, study: Study) -> WarmStart:
    """Read another run.

    Raises:
        SpaceError: it has another objective, searches none of the study's parameters, or has no finished trial in its ranges;
            or the study's sampler learns nothing from trials that it has not drawn.
        RunError: its files are missing or damaged.
    """
    if study.sampler not in MODELS or study.further_objectives:
        got = f"(sampler={study.sampler}, objectives={len(study.objectives)})"
        raise SpaceError(f"--warm-start {source.name}: goes with one objective and {', '.join(MODELS)}, but got {got}")
    record = source.read_record()
    theirs, budget = record.resolved_study(), record.budget()
    if theirs.objective != study.objective:
        raise SpaceError(
            f"--warm-start {source.name}: it optimised {theirs.objective.metric} ({theirs.objective.mode}), "
            f"this run {study.objective.metric} ({study.objective.mode})"
        )
    trials = [
        trial
        for trial in read_trials(source)
        if trial.state in ("COMPLETE", "PRUNED")
        and trial.history
        and all(math.isfinite(trial.metrics.get(one.metric, math.nan)) for one in study.constraints)
    ]
    levels = [*budget.rungs(), budget.steps]
    values = [at_levels(dict(trial.history), levels, theirs.objective.mode) for trial in trials]
    ranks = fair_ranks(values, budget.reduction_factor)
    found = WarmStart(
        source=str(source.path.resolve()),
        trials=tuple(
            EarlierTrial(
                params=t.params,
                rank=rank,
                violations={one.metric: one.violation(t.metrics[one.metric]) for one in study.constraints},
            )
            for t, rank in zip(trials, ranks, strict=True)
        ),
    )
    if not found.experience(study):
        raise SpaceError(
            f"--warm-start {source.name}: none of its {len(trials)} finished trials lies in this run's ranges"
        )
    return found


def write(run: RunDirectory, earlier: WarmStart | None) -> None:
    """Give a new run what it learns from; with None nothing, also where a run of its name that did not begin had left some."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.warm_start.unlink(missing_ok=True)
    if earlier is not None:
        write_json(run.warm_start, earlier)


def read(run: RunDirectory) -> WarmStart | None:
    """That of a run that had one. Raises RunError when it is damaged."""
    return read_json(run.warm_start, WarmStart, "") if run.warm_start.exists() else None
