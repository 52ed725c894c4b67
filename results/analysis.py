"""What a run found: counts, ranking, time, importance, edges, and the gain over the documents' values. Numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from results.importance import Importance, importance
from results.records import STATES, State, TrialRecord, read_trials
from results.run_directory import RunDirectory, RunRecord, Summary
from spaces.loading import available
from spaces.metrics import METRICS, Mode
from spaces.study import Scalar, Study


@dataclass(frozen=True, slots=True)
class Spent:
    """What the trials of one state cost."""

    trials: int
    steps: int
    lane_seconds: float


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
    """The best trial against the documents' values on the same metric.

    `factor` is document / best, for a metric where less is better; None otherwise (a ratio of decibels says nothing).
    """

    metric: str
    where: str
    document: float
    best: float
    factor: float | None


@dataclass(frozen=True)
class Analysis:
    """Everything `tune analyze` shows, before it is drawn."""

    record: RunRecord
    study: Study
    trials: list[TrialRecord]
    ranking: list[TrialRecord]
    spent: dict[State, Spent]
    importance: Importance
    edges: list[Edge]
    gain: Gain | None
    summary: Summary | None

    @property
    def mode(self) -> Mode:
        return self.study.objective.mode

    @property
    def document(self) -> TrialRecord | None:
        """The trial with the source documents' values."""
        return next((trial for trial in self.trials if trial.recommended), None)


def analyze(run: RunDirectory) -> Analysis:
    """Read a run, finished or not, and work out what it says.

    Raises:
        RunError: the run's files are missing or damaged.
    """
    record = run.read_record()
    study = record.resolved_study()
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
        spent=spent(trials),
        importance=importance(trials, study, min([*record.budget().rungs(), record.budget().steps])),
        edges=edges(study, ranking[0].params) if ranking else [],
        gain=_gain(study, trials, ranking, summary),
        summary=summary,
    )


def ranked(trials: Sequence[TrialRecord], mode: Mode) -> list[TrialRecord]:
    """Trials from best to worst by their best report; FAIL and trials without a finite report are left out.

    A stopped trial is listed by what it reached: the objective is the error of a model that exists as a checkpoint,
    measured on held-out positions and free of swept weights. It cannot win, though: `search.finish` chooses among the
    trials that had the full budget.
    """

    def key(trial: TrialRecord) -> tuple[float, int, int]:
        best = trial.best(mode)
        assert best is not None
        step, value = best
        return (value if mode == "min" else -value, step, trial.number)

    return sorted((t for t in trials if t.state != "FAIL" and t.best(mode) is not None), key=key)


def spent(trials: Sequence[TrialRecord]) -> dict[State, Spent]:
    """Number of trials, optimizer steps and lane seconds by state, for the states that occur."""
    found: dict[State, Spent] = {}
    for state in STATES:
        of_state = [trial for trial in trials if trial.state == state]
        if of_state:
            steps = sum(trial.step for trial in of_state)
            found[state] = Spent(len(of_state), steps, sum(trial.seconds for trial in of_state))
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
    """Best against document: at the sealed test positions once the search has ended, else on validation."""
    metric, mode = study.objective.metric, study.objective.mode
    if summary is not None and {"document", "best"} <= summary.test.keys():
        name = metric.removeprefix("val/")
        if name in summary.test["document"] and name in summary.test["best"]:
            return _compare(
                f"test/{name}", "test positions", summary.test["document"][name], summary.test["best"][name]
            )
    document = next((trial.best(mode) for trial in trials if trial.recommended), None)
    if document is None or not ranking:
        return None
    best = ranking[0].best(mode)
    assert best is not None
    return _compare(metric, f"validation positions, document's trial at step {document[0]}", document[1], best[1])


def _compare(metric: str, where: str, document: float, best: float) -> Gain:
    comparable = METRICS[metric].mode == "min" and best > 0
    return Gain(metric, where, document, best, document / best if comparable else None)
