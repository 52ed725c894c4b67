"""Claim: the search comes within 5 % of the best with a third of random search's compute, and less than Ray ships.

Searches are replayed over a recorded table of learning curves (benchmarks/curve_table.py), so that one takes seconds. What an
algorithm suggests becomes the nearest configuration of the table that the search has not had yet, and that is what it is told
about. Two lanes train side by side; the unit of compute is the full trial. Nobody is given trials to begin with.
Also measured: the driver's own time per trial, and its memory, over 2,000 trials.

    python -m benchmarks.search
"""

from __future__ import annotations

import heapq
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch
from scipy.stats import bootstrap, spearmanr

from benchmarks._shared import Options
from benchmarks.curve_table import CurveTable
from results.distributions import distributions
from search.ledger import Ledger
from search.observer import Observer
from search.sampler import GP_TRIALS, Suggestions, given
from search.scheduler import STOP, EarlyStopping, rule
from search.searcher import StudySearcher
from spaces.study import Budget, Scalar, Study

LANES = 2
CLOSE = 1.05
"""Times the table's best."""
STOCK = "Ray's OptunaSearch + ASHA"

Params = dict[str, Scalar]
Nearest = Callable[[Params | None], Params]
"""A configuration of the table for any parameters; None: one at random."""


class Search(Protocol):
    """A search algorithm with its early stopping; trials are known by a key."""

    def suggest(self, key: str, nearest: Nearest) -> None:
        """The next trial; its parameters are what `nearest`, called once, makes of those that the algorithm would try."""

    def report(self, key: str, step: int, value: float, last: bool) -> bool:
        """Whether the trial goes on."""


class Ours:
    """The project's searcher, ledger and early stopping, as a run composes them."""

    def __init__(self, study: Study, budget: Budget, folder: str) -> None:
        suggestions = Suggestions(study, budget)
        self._ledger = Ledger(
            f"sqlite:///{folder}/study.db",
            "replay",
            study.objectives,
            lambda trials: given(study, self._nearest(suggestions(trials).params)),
        )
        self._metric = study.objective.metric
        self._stopping = EarlyStopping(rule(study, budget), study.watched)
        self._searcher = StudySearcher(self._ledger, study, budget.steps, Observer(), self._stopping.decisions)
        self._trials: dict[str, Any] = {}

    def suggest(self, key: str, nearest: Nearest) -> None:
        self._nearest = nearest
        self._trials[key] = SimpleNamespace(config=self._searcher.suggest(key))

    def report(self, key: str, step: int, value: float, last: bool) -> bool:
        result = {self._metric: value, "step": step, "seconds": 0.0, "lane": "", "attempt": key, "failure": None}
        go_on = self._stopping.on_trial_result(None, self._trials[key], result) != STOP and not last
        if go_on:
            self._searcher.on_trial_result(key, result)
        else:
            self._searcher.on_trial_complete(key, result)
            del self._trials[key]
        return go_on


class _Snapped(TPESampler):
    """OptunaSearch's sampler, whose suggestions become what `nearest` makes of them."""

    nearest: Nearest

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int) -> None:
        super().__init__(seed=seed)
        self._distributions = distributions

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Params:
        jointly = super().infer_relative_search_space(study, trial)
        found = super().sample_relative(study, trial, jointly)
        for name, one in search_space.items():
            if name not in found:
                found[name] = self.sample_independent(study, trial, name, one)
        return self.nearest(found)


class Stock:
    """Ray's OptunaSearch and ASHA with their defaults, a report being an iteration."""

    def __init__(self, study: Study, budget: Budget, seed: int) -> None:
        metric, mode = study.objective.metric, study.objective.mode
        self._metric, self._every = metric, budget.evaluate_every
        self._sampler = _Snapped(distributions(study), seed)
        self._searcher = OptunaSearch(distributions(study), metric=metric, mode=mode, sampler=self._sampler)
        iterations = budget.steps // budget.evaluate_every
        self._scheduler = AsyncHyperBandScheduler(metric=metric, mode=mode, max_t=iterations)
        self._trials: dict[str, Any] = {}

    def suggest(self, key: str, nearest: Nearest) -> None:
        self._trials[key] = SimpleNamespace(trial_id=key)
        self._scheduler.on_trial_add(None, self._trials[key])
        self._sampler.nearest = nearest
        self._searcher.suggest(key)

    def report(self, key: str, step: int, value: float, last: bool) -> bool:
        trial, result = self._trials[key], {self._metric: value, "training_iteration": step // self._every}
        go_on = self._scheduler.on_trial_result(None, trial, result) != STOP and not last
        if go_on:
            self._searcher.on_trial_result(key, result)
        else:
            self._scheduler.on_trial_complete(None, trial, result)
            self._searcher.on_trial_complete(key, result)
            del self._trials[key]
        return go_on


class Random:
    """Any configuration, to the end."""

    def suggest(self, key: str, nearest: Nearest) -> None:
        nearest(None)

    def report(self, key: str, step: int, value: float, last: bool) -> bool:
        return not last


def replay(search: Search, table: CurveTable, target: float, seed: int) -> float:
    """Full trials' worth of steps that all lanes spent until a trial reported the target."""
    events: list[tuple[float, str, int, int]] = []  # (time in steps, trial, report, configuration)
    free = np.ones(len(table.params), dtype=bool)
    spent, order, steps = 0.0, itertools.count(), table.steps
    rng = np.random.default_rng(seed)

    def start(now: float) -> None:
        key = str(next(order))

        def nearest(params: Params | None) -> Params:
            row = int(rng.choice(np.flatnonzero(free))) if params is None else table.nearest(params, free)
            free[row] = False
            heapq.heappush(events, (now + steps[0], key, 0, row))
            return table.params[row]

        if free.any():
            search.suggest(key, nearest)

    for _ in range(LANES):
        start(0.0)
    while events:
        now, key, report, row = heapq.heappop(events)
        step, before = steps[report], steps[report - 1] if report else 0
        spent += (step - before) / steps[-1]
        value = float(table.values[row, report])
        if value <= target:
            return spent
        if search.report(key, step, value, last=step == steps[-1]):
            heapq.heappush(events, (now + steps[report + 1] - step, key, report + 1, row))
        else:
            start(now)
    return float(len(table.params))  # it stopped the good ones


def settings(table: CurveTable, seed: int, **changes: Any) -> tuple[Study, Budget]:
    """The space with a budget of the table's size; changes go to whichever of the two knows them."""
    budget = {key: value for key, value in changes.items() if key in Budget.model_fields}
    study = {key: value for key, value in changes.items() if key not in Budget.model_fields}
    every = table.steps[1] - table.steps[0]
    quick = table.study.budget["quick"]
    share = table.steps[-1] / quick.steps
    base = {
        "steps": table.steps[-1],
        "evaluate_every": every,
        "grace_steps": round(quick.grace_steps * share / every) * every,
    }
    return (
        table.study.model_copy(update={"seed": seed, **study}),
        quick.model_copy(update={**base, "trials": 0, **budget}),
    )


@cache
def the_table() -> CurveTable:
    return CurveTable.read()


def compute(make: Callable[[CurveTable, int, str], Search], seed: int) -> float:
    """What one search of `make` cost with this seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = the_table()
    with tempfile.TemporaryDirectory() as folder:
        return replay(make(table, seed, folder), table, CLOSE * table.best, seed)


def ours(table: CurveTable, seed: int, folder: str, **changes: Any) -> Search:
    return Ours(*settings(table, seed, **changes), folder)


def stock(table: CurveTable, seed: int, folder: str) -> Search:
    return Stock(*settings(table, seed), seed)


def at_random(table: CurveTable, seed: int, folder: str) -> Search:
    return Random()


SEARCHES: dict[str, Callable[[CurveTable, int, str], Search]] = {
    "random": at_random,
    "TPE": partial(ours, sampler="tpe", scheduler="none"),
    "TPE + median": partial(ours, sampler="tpe", scheduler="median"),
    STOCK: stock,
    "ours": ours,
}


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    found = bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def compare(seeds: int) -> dict[str, float]:
    """Prints every search's compute; the medians."""
    print(f"{'compute to within 5 % of the best, full trials':48}{'median':>8}  {'95 % interval':>16}{'missed':>10}")
    medians = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, make in SEARCHES.items():
            costs = np.array(list(pool.map(compute, [make] * seeds, range(seeds))))
            low, high = interval(costs)
            medians[name] = float(np.median(costs))
            print(
                f"{name:48}{medians[name]:8.1f}  {low:7.1f} - {high:6.1f}{(costs >= len(the_table().params)).sum():10}",
                flush=True,
            )
    return medians


def rung_correlations(table: CurveTable) -> None:
    print("rank correlation with the last value, by step:")
    print(
        "  ".join(
            f"{s}: {spearmanr(table.values[:, i], table.values[:, -1]).statistic:.2f}"
            for i, s in enumerate(table.steps)
        )
    )


def driver(table: CurveTable, sampler: str, trials: int) -> float:
    """Mean time of the searcher, ledger, sampler and early stopping per trial; prints it, and memory, by quarters."""
    study, budget = settings(table, 0, sampler=sampler)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        search = Ours(study, budget, folder)
        milliseconds, memory = [], []
        for quarter in range(4):
            seconds = 0.0
            for trial in range(quarter * trials // 4, (quarter + 1) * trials // 4):
                curve = table.values[rng.integers(len(table.params))]
                began = time.perf_counter()
                search.suggest(str(trial), lambda params: params or {})
                for step, value in zip(table.steps, curve, strict=True):
                    if not search.report(str(trial), step, float(value), step == table.steps[-1]):
                        break
                seconds += time.perf_counter() - began
            milliseconds.append(1000 * seconds / (trials // 4))
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        size = (Path(folder) / "study.db").stat().st_size / 2**20
    print(
        f"driver, {sampler}, {trials} trials, by quarter: {', '.join(f'{one:.1f}' for one in milliseconds)} ms per trial"
    )
    print(f"  peak memory {', '.join(f'{one:.0f}' for one in memory)} MiB; database {size:.1f} MiB", flush=True)
    return float(np.mean(milliseconds))


def main() -> None:
    options = Options(__doc__)
    options.add_size("--seeds", 20, 2, "replays of each search")
    options.add_size("--driver-trials", 2000, 8, "trials by which the driver with TPE is timed")
    options.add_size("--gp-trials", GP_TRIALS, 12, "the same with Gaussian processes")
    arguments = options.parse()
    table = the_table()
    close = int((table.values.min(axis=1) <= CLOSE * table.best).sum())
    print(
        f"{len(table.params)} configurations, {table.steps[-1]} steps; best {table.best:.4g}, {close} within 5 % of it"
    )
    rung_correlations(table)
    medians = compare(arguments.seeds)
    per_trial = driver(table, "tpe", arguments.driver_trials)
    driver(table, "gp", arguments.gp_trials)
    print(f"driver_ms_per_trial={per_trial:.1f}")
    print(f"ours_to_random={medians['ours'] / medians['random']:.2g}")
    print(f"ours_to_stock={medians['ours'] / medians[STOCK]:.2g}")


if __name__ == "__main__":
    main()
