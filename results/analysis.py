"""What a run found: states, early stopping, ranking, time, sensitivity, edges, and how the winner compares. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

from results.comparison import Interval
from results.decisions import Failure, Stop, Survival, failures, stops, survival
from results.records import STATES, State, TrialRecord, read_trials
from results.run_directory import RunDirectory, RunRecord
from results.second_opinions import second_opinions
from results.sensitivity import Sensitivity, sensitivity
from results.summary import Final, Summary
from spaces.loading import available
from spaces.metrics import SEALED, Metric, Mode, sign
from spaces.study import Objective, Scalar, Study
from spaces.system import System


@dataclass(frozen=True, slots=True)
class Spent:
    """What the trials of one state cost."""

    trials: int
    steps: int
    lane_seconds: float


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How busy the lanes were: `share` of places * `seconds`, the time in which at least one trial ran.

    A lane has a place for each trial that it trains at once (`resources.pack`), and the place `lane-0.1` is of `lane-0`.
    """

    lanes: int
    places: int
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Edge:
    """The best value of a parameter lies at an end of its range, so better ones may lie outside."""

    name: str
    value: Scalar
    end: str
    """`lower` or `upper`."""
    bound: float
    advice: str


@dataclass(frozen=True, slots=True)
class Gain:
    """The best trial against the reference on the same metric.

    `factor` is reference / best, for a metric where less is better; None otherwise (a ratio of decibels says nothing).
    """

    metric: str
    where: str
    reference: float
    best: float
    factor: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """The winner against a baseline, at the test set.

    `ahead` is by how much the winner is better, in the unit of `Final.metric`, with its 95 % interval; negative: worse.
    """

    method: str
    ahead: Interval

    @property
    def better(self) -> Literal["winner", "method"] | None:
        """None: the two are not told apart."""
        return "winner" if self.ahead.low > 0 else "method" if self.ahead.high < 0 else None


@dataclass(frozen=True)
class Analysis:
    """Everything `tune analyze` shows, before it is drawn.

    `survival` and `stops` are of early stopping; without it (`scheduler: none`) both are empty. `front` is that of several
    objectives, empty with one. `standings` are known once the search has ended.
    """

    record: RunRecord
    study: Study
    trials: list[TrialRecord]
    ranking: list[TrialRecord]
    front: list[TrialRecord]
    spent: dict[State, Spent]
    failures: list[Failure]
    efficiency: Efficiency | None
    survival: list[Survival]
    stops: list[Stop]
    edges: list[Edge]
    gain: Gain | None
    standings: list[Standing]
    summary: Summary | None

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """Worked out when it is asked for: it takes a second or more."""
        return sensitivity(self.trials, self.study, self.record.budget())

    @cached_property
    def second_opinions(self) -> dict[str, dict[str, float]]:
        """Shares by other methods, by their names, at the step of `sensitivity`; none where it has a reason to say nothing."""
        found = self.sensitivity
        return {} if found.reason else second_opinions(self.trials, self.study, found.step)

    @property
    def mode(self) -> Mode:
        return self.study.objective.mode

    @property
    def title(self) -> str:
        """What tables call the objective."""
        return self.study.system.metrics[self.study.objective.metric].short

    @property
    def reference(self) -> TrialRecord | None:
        """The trial with the reference values."""
        return next((trial for trial in self.trials if trial.recommended), None)


def analyze(run: RunDirectory) -> Analysis:
    """Read a run, finished or not, and work out what it says.

    Raises:
        RunError: the run's files are missing or damaged.
    """
    record = run.read_record()
    study, budget = record.resolved_study(), record.budget()
    trials = read_trials(run)
    summary = run.read_summary()
    ranking = ranked(trials, study.objective.mode)
    if summary is not None:  # the winner that was judged and exported comes first
        ranking.sort(key=lambda trial: trial.number != summary.best.number)
    return Analysis(
        record=record,
        study=study,
        trials=trials,
        ranking=ranking,
        front=pareto_front(trials, study.objectives) if study.further_objectives else [],
        spent=spent(trials),
        failures=failures(trials),
        efficiency=efficiency(trials),
        survival=[]
        if study.scheduler == "none"
        else survival(trials, [*budget.rungs(), budget.steps], study.objective.mode),
        stops=stops(trials),
        edges=edges(study, ranking[0].params) if ranking else [],
        gain=_gain(study, trials, ranking, summary),
        standings=standings(summary.final, study.system) if summary is not None else [],
        summary=summary,
    )


def ranked(trials: Sequence[TrialRecord], mode: Mode) -> list[TrialRecord]:
    """Trials from best to worst by their best report; FAIL and trials without a finite report are left out.

    A stopped trial is listed by what it reached: the objective is the error of the model of its `best` checkpoint,
    measured on held-out positions and free of swept weights. It cannot win, though: `search.finish` chooses among the
    trials that had the full budget. Trials outside the constraints come after all others, those farthest outside last; of
    a trial that still runs that is not known.
    """

    def key(trial: TrialRecord) -> tuple[float, float, int, int]:
        best = trial.best(mode)
        assert best is not None
        step, value = best
        return (trial.violation, sign(mode) * value, step, trial.number)

    return sorted((t for t in trials if t.state != "FAIL" and t.best(mode) is not None), key=key)


def pareto_front(trials: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """COMPLETE trials within the constraints that no other such trial dominates, ordered by the first objective.

    A trial dominates another if it is better in one objective and no worse in any.
    """
    signs = [sign(objective.mode) for objective in objectives]

    def losses(trial: TrialRecord) -> tuple[float, ...]:
        assert trial.values is not None
        return tuple(one * value for one, value in zip(signs, trial.values, strict=True))

    able = [t for t in trials if t.state == "COMPLETE" and t.values is not None and t.violation == 0]
    all_losses = [losses(trial) for trial in able]

    def dominated(mine: tuple[float, ...]) -> bool:
        return any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in all_losses)

    front = [trial for trial, mine in zip(able, all_losses, strict=True) if not dominated(mine)]
    return sorted(front, key=lambda trial: (losses(trial), trial.number))


def spent(trials: Sequence[TrialRecord]) -> dict[State, Spent]:
    """Number of trials, optimizer steps and lane seconds by state, for the states that occur."""
    found: dict[State, Spent] = {}
    for state in STATES:
        of_state = [trial for trial in trials if trial.state == state]
        if of_state:
            steps = sum(trial.step for trial in of_state)
            found[state] = Spent(len(of_state), steps, sum(trial.seconds for trial in of_state))
    return found


def efficiency(trials: Sequence[TrialRecord]) -> Efficiency | None:
    """Lane time over what the lanes had, while trials ran; None before a lane has trained. For a number of lanes that stayed.

    A trial runs from its start to its end, or to its last report if it has not ended; of a lane's first trial only the lane's
    own seconds count, for before them Tune starts a process (after a resume that counts as idle). Left out: trials without
    a start, the time when no trial ran (rendering, starting lanes, a pause between two runs), the finalists' training, and
    what a resumed trial had before it was interrupted, whose start is not kept.
    """
    places: set[str] = set()
    spans, trained = [], 0.0
    for began, trial in sorted(((t.started, t) for t in trials if t.started is not None), key=lambda pair: pair[0]):
        ended = trial.ended or began + timedelta(seconds=trial.seconds)
        seconds = min(trial.seconds, (ended - began).total_seconds())
        trained += seconds
        if trial.lane and trial.lane not in places:  # a trial that no lane took has none
            places.add(trial.lane)
            began = ended - timedelta(seconds=seconds)
        spans.append((began, ended))
    elapsed = 0.0
    reached = None
    for began, ended in sorted(spans):
        since = began if reached is None else max(began, reached)
        elapsed += max(0.0, (ended - since).total_seconds())
        reached = ended if reached is None else max(ended, reached)
    if not places or not elapsed:
        return None
    lanes = {place.partition(".")[0] for place in places}
    return Efficiency(len(lanes), len(places), elapsed, trained / (len(places) * elapsed))


def standings(final: Final, system: System) -> list[Standing]:
    """The winner against each baseline: which of the two is better, whatever the metric's direction."""
    mode = system.metrics[SEALED + final.metric].mode
    assert mode is not None
    toward = sign(mode)
    found = []
    for method, baseline in final.baselines.items():
        low, high = sorted((toward * baseline.behind.low, toward * baseline.behind.high))
        found.append(Standing(method, Interval(mean=toward * baseline.behind.mean, low=low, high=high)))
    return found


def edges(study: Study, params: dict[str, Scalar]) -> list[Edge]:
    """Parameters whose value lies within 5 % of an end of its range (on a log range: of its logarithm)."""
    wide = f"{study.space}_wide"
    advice = f"try --space {wide}" if wide in available() else "widen the range in the space file"
    found = []
    for name, value in params.items():
        edge = study.edge(name, value) if name in study.search else None
        if edge is None:
            continue
        bound = study.search[name].high if edge == "upper" else study.search[name].low
        assert bound is not None
        assert not isinstance(value, str)
        found.append(Edge(name, value, edge, bound, advice))
    return found


def _gain(
    study: Study, trials: Sequence[TrialRecord], ranking: Sequence[TrialRecord], summary: Summary | None
) -> Gain | None:
    """The best against the reference: at the sealed test set once the search has ended, else on validation."""
    metric, mode = study.system.metrics[study.objective.metric], study.objective.mode
    if summary is not None and {"reference", "best"} <= summary.test.keys():
        reference, best = (summary.test[method][metric.measure] for method in ("reference", "best"))
        return _compare(study.system.metrics[SEALED + metric.measure], "test set", reference, best)
    reached = next((trial.best(mode) for trial in trials if trial.recommended), None)
    if reached is None or not ranking:
        return None
    first = ranking[0].best(mode)
    assert first is not None
    return _compare(metric, f"validation set, reference at step {reached[0]}", reached[1], first[1])


def _compare(metric: Metric, where: str, reference: float, best: float) -> Gain:
    comparable = metric.ratio and metric.mode == "min" and best > 0
    return Gain(metric.name, where, reference, best, reference / best if comparable else None)
