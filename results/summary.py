"""What a run ends with: `summary.json`, for machines."""

from __future__ import annotations

from typing import Any

from results.comparison import Interval
from spaces.frozen import Frozen
from spaces.study import Objective


class Winner(Frozen):
    """The exported model: trial `number`, trained with `seed` (None: as the search trained it).

    `value` is its best objective on the validation positions, reached at `step`.
    """

    number: int
    params: dict[str, Any]
    value: float
    step: int
    seed: int | None = None


class Training(Frozen):
    """One training of a finalist, at the full budget; `value` is its best on validation, at `step`, `test` on test."""

    seed: int | None
    value: float
    step: int
    test: float


class Cost(Frozen):
    """What a method costs: `bytes` that must be kept, `seconds` per item on the CPU (a model's on one thread).

    `data_seconds` of CPU went into the set that it is made of, `training_seconds` of wall-clock time into training it (a
    finalist's: in the search). None: not known.
    """

    bytes: int
    seconds: float
    data_seconds: float | None = None
    training_seconds: float | None = None


class FinalistResult(Cost):
    """A trial that was trained again with fresh seeds and judged at the sealed test set.

    `score` is that of `Final.metric`; `behind` the paired difference from the winner's (positive: a larger value), None
    for the winner itself. A `rival` might have won; another, the reference, is only compared with.
    """

    number: int
    recommended: bool
    rival: bool
    params: dict[str, Any]
    trainings: tuple[Training, ...]
    score: Interval
    behind: Interval | None


class BaselineResult(Cost):
    """What a user would do without a model; `score` and `behind` as for finalists.

    `items`: how many of the test set's first items it was judged at, where all would have taken too long; None: all.
    """

    score: Interval
    behind: Interval
    items: int | None = None


class Final(Frozen):
    """How the winner was found among the finalists.

    `metric` is named without its prefix; `tied` are the finalists not told apart from the best one; `verdict` says it all in
    a sentence. The reference (`recommended`) is among `finalists`. `baselines` are by the name that the system declares.
    """

    metric: str
    finalists: tuple[FinalistResult, ...]
    winner: int
    tied: tuple[int, ...]
    verdict: str
    baselines: dict[str, BaselineResult]

    @property
    def best(self) -> FinalistResult:
        """The finalist that won."""
        return next(one for one in self.finalists if one.number == self.winner)

    @property
    def reference(self) -> FinalistResult | None:
        """The source document's values, if they could be trained."""
        return next((one for one in self.finalists if one.recommended), None)


class Summary(Frozen):
    """The end of a run, for machines.

    `test` maps a method (`reference`, `best` and the system's baselines) to its metrics at the sealed test set, named without
    the `test/` prefix; of `reference` and `best` the mean over their trainings. `ended` says what ended the search. `seconds` is
    wall-clock time, `lane_seconds` the sum over trials, `steps` the optimizer steps of all trials, `prepared` what this run did
    for its data, such as rays traced (0 when the cache had it all).
    """

    name: str
    space: str
    preset: str
    objective: Objective
    trials: dict[str, int]
    best: Winner
    test: dict[str, dict[str, float]]
    final: Final
    ended: str
    prepared: dict[str, int]
    steps: int
    seconds: float
    lane_seconds: float
