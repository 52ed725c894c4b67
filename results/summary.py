"""What a run ends with: `summary.json`, for machines."""

from __future__ import annotations

from typing import Any

from results.comparison import Interval
from spaces.study import Objective
from spaces.trial import Frozen


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


class FinalistResult(Frozen):
    """A trial that was trained again with fresh seeds and judged at the sealed test positions.

    `score` is that of `Final.metric`; `behind` the paired difference from the winner's (positive: a larger value), None
    for the winner itself. `bytes` is the model's size, `seconds_per_psf` its time on one CPU thread.
    """

    number: int
    recommended: bool
    params: dict[str, Any]
    trainings: tuple[Training, ...]
    score: Interval
    behind: Interval | None
    bytes: int
    seconds_per_psf: float


class BaselineResult(Frozen):
    """An interpolation of the training grid; `behind` as for finalists."""

    score: float
    behind: Interval
    bytes: int
    seconds_per_psf: float


class Final(Frozen):
    """How the winner was found among the finalists.

    `metric` is named without its prefix; `tied` are the finalists not told apart from the best one; `verdict` says it all in
    a sentence. The documents' values (`recommended`) are among `finalists`, but only to compare with. `baselines` are by
    method: nearest, bilinear, bicubic, pca_rbf, rbf_cubic.
    """

    metric: str
    finalists: tuple[FinalistResult, ...]
    winner: int
    tied: tuple[int, ...]
    verdict: str
    baselines: dict[str, BaselineResult]


class Summary(Frozen):
    """The end of a run, for machines.

    `test` maps a method (`document`, `best`, `nearest`, `bilinear`, `bicubic`, `pca_rbf`, `rbf_cubic`) to its metrics at the
    sealed test positions, named without the `test/` prefix; of `document` and `best` the mean over their trainings.
    `ended` says what ended the search. `seconds` is wall-clock time, `lane_seconds` the sum over trials, `steps` the
    optimizer steps of all trials, `rays_traced` what this run rendered (0 when the cache had it all).
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
    rays_traced: int
    steps: int
    seconds: float
    lane_seconds: float
