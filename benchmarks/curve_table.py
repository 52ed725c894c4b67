"""A table of full learning curves of the space `cvae_psf`, recorded once, so that searches can be replayed in seconds.

    python -m benchmarks.curve_table --record 300

draws configurations as random search does, trains each to the end on the Cooke triplet and writes
`benchmarks/data/cvae_psf_curves.json.gz`; it goes on where it was interrupted. Without arguments it describes the table.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks._shared import Options, prepared, the_study
from results.distributions import suggest
from spaces.loading import load
from spaces.seeding import named_seed
from spaces.study import Scalar, Study

TABLE = Path(__file__).parent / "data" / "cvae_psf_curves.json.gz"
STEPS = 600
REPORT_EVERY = 40
SEED = 0
BINS = 5
LEAST_WEIGHT = 0.01
RENDERED = Path("results/cache")
IN_MEMORY = Path("/dev/shm")
"""Where there is one, checkpoints of the recording go there: nobody wants them."""


@dataclass(frozen=True)
class CurveTable:
    """Configurations and the objective of each at every report step."""

    study: Study
    params: list[dict[str, Scalar]]
    steps: tuple[int, ...]
    values: NDArray[np.float64]
    """[configurations, steps]"""

    @classmethod
    def read(cls, path: Path = TABLE) -> CurveTable:
        with gzip.open(path, "rt") as file:
            table = json.load(file)
        return cls(load(table["space"]), table["params"], tuple(table["steps"]), np.array(table["values"]))

    @property
    def best(self) -> float:
        """Lowest objective at the last step."""
        return float(self.values[:, -1].min())

    def nearest(self, params: dict[str, Scalar], free: NDArray[np.bool_]) -> int:
        """Of the `free` configurations the one that is nearest to any parameters of the space.

        Distance is Euclidean, each range scaled to [0, 1] (logarithms on log ranges), different choices 1 apart, and each
        parameter weighted by what it matters: what has no effect should not decide what is near.
        """
        away = self._coordinates - np.array(list(self._row(params)))
        distance = np.square(away) @ self._weights
        return int(np.where(free, distance, np.inf).argmin())

    @cached_property
    def _coordinates(self) -> NDArray[np.float64]:
        return np.array([list(self._row(params)) for params in self.params])

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """Of each coordinate: its parameter's first-order sensitivity, the share of the last value's variance (of its rank)
        that the parameter explains alone, less what chance explains."""
        ranks, weights = self.values[:, -1].argsort().argsort(), []
        for name, parameter in self.study.search.items():
            column = np.array([params[name] for params in self.params])
            groups = (
                np.unique(column) if len(np.unique(column)) <= BINS else np.quantile(column, np.arange(BINS) / BINS)
            )
            places = np.searchsorted(groups, column, side="right") if column.dtype.kind in "if" else column
            parts = [ranks[places == place] for place in np.unique(places)]
            between = sum(len(part) * (part.mean() - ranks.mean()) ** 2 for part in parts) / len(ranks) / ranks.var()
            share = max(between - (len(parts) - 1) / (len(ranks) - 1), LEAST_WEIGHT)
            weights += [share] * (len(parameter.choices) if parameter.choices is not None else 1)
        return np.array(weights)

    def _row(self, params: dict[str, Scalar]) -> Iterator[float]:
        for name, parameter in self.study.search.items():
            value = params[name]
            if parameter.choices is not None:
                yield from (float(value == choice) / 2**0.5 for choice in parameter.choices)
                continue
            assert parameter.low is not None
            assert parameter.high is not None
            scale = np.log if parameter.log else float
            yield float((scale(value) - scale(parameter.low)) / (scale(parameter.high) - scale(parameter.low)))


def record(count: int, steps: int, processes: int, path: Path, tiny: bool) -> None:
    """Train `count` configurations to the end, each in one thread; those in the table already are not trained again."""
    study, lens = the_study(tiny)
    sets = prepared(study, lens, RENDERED, actors=0)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    params = [suggest(drawn.ask(), study) for _ in range(count)]
    partial = path.with_suffix(".jsonl")  # a line per configuration: nothing is lost when it is interrupted
    path.parent.mkdir(exist_ok=True)
    done = dict(map(json.loads, partial.read_text().splitlines())) if partial.exists() else {}
    with ProcessPoolExecutor(processes, initializer=os.nice, initargs=(10,)) as pool, partial.open("a") as lines:
        running = {
            pool.submit(_train, one, index, steps, sets): index for index, one in enumerate(params) if index not in done
        }
        for future in as_completed(running):
            done[running[future]] = future.result()
            lines.write(json.dumps([running[future], done[running[future]]]) + "\n")
            lines.flush()
            print(f"{len(done)}/{count}", flush=True)
    kept = [index for index in range(count) if done[index] is not None]
    table: dict[str, Any] = {
        "space": study.space,
        "steps": list(_report_steps(steps)),
        "params": [params[index] for index in kept],
        "values": [[float(f"{value:.5g}") for value in done[index] or ()] for index in kept],
    }
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(json.dumps(table).encode())
    partial.unlink()
    print(f"{path}: {len(kept)} curves, {count - len(kept)} configurations became non-finite")


def _report_steps(steps: int) -> tuple[int, ...]:
    return tuple(range(REPORT_EVERY, steps + 1, REPORT_EVERY))


def _train(params: dict[str, Scalar], index: int, steps: int, sets: dict[str, str]) -> list[float] | None:
    """The objective at every report; None if it became non-finite."""
    import torch

    from trainables.training.loop import NonFiniteError, train
    from trainables.training.task import TrainingTask

    torch.set_num_threads(1)
    study = load("cvae_psf")
    objective, learner = study.objective, study.system.make_learner()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as directory:
        task = TrainingTask(
            system=study.model,
            trial=study.trial(params),
            seed=named_seed(SEED, "trial", index),
            steps=steps,
            report_steps=_report_steps(steps),
            directory=directory,
            metric=objective.metric,
            mode=objective.mode,
        )
        try:
            return [report.metrics[objective.metric] for report in train(task, learner, learner.open(sets))]
        except NonFiniteError:
            return None


def main() -> None:
    options = Options(__doc__)
    options.add_size("--record", 0, 3, "configurations to train")
    options.add_size("--steps", STEPS, 2 * REPORT_EVERY, "steps of each")
    options.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = options.parse()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, TABLE.name) if arguments.tiny else TABLE  # not in place of the one that searches replay
        if arguments.record:
            record(arguments.record, arguments.steps, arguments.processes, path, arguments.tiny)
        table = CurveTable.read(path)
    print(f"{len(table.params)} configurations, {table.steps[-1]} steps")
    print(f"best={table.best:.4g}")


if __name__ == "__main__":
    main()
