"""The searcher against a real SQLite study, driven as Tune drives it."""

import math
import pickle
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.early_stopping import Decision
from search.observer import Observer
from search.scheduler import CONTINUE, EarlyStopping, rule
from search.searcher import StudySearcher
from tests.search.small import METRIC, PRESET, open_at, small, stored, value

STEPS = 100
PSNR = "val/prior_psnr"


class Log(Observer):
    """Keeps what the searcher tells its observer."""

    def __init__(self):
        self.started, self.reported, self.ended = [], [], []

    def trial_started(self, number, params):
        self.started.append((number, params))

    def trial_reported(self, number, step, value, metrics):
        self.reported.append((number, step, value))

    def trial_ended(self, number, state, step, value, reason):
        self.ended.append((number, state, step, value, reason))


@pytest.fixture
def space():
    return small(sampler="random")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


def searching(path, space, decisions=None):
    """A searcher over the study in a file; it is resumed if it exists."""
    return StudySearcher(open_at(path, space), space, STEPS, Log(), {} if decisions is None else decisions)


@pytest.fixture
def searcher(path, space):
    return searching(path, space)


def result(step, value, *, attempt="first", seconds=None, failure=None, **others):
    """A lane's report as the trial forwards it."""
    seconds = step / 10 if seconds is None else seconds
    progress = {"attempt": attempt, "step": step, "seconds": seconds, "lane": "lane-0", "failure": failure}
    return progress | {METRIC: value, "train/loss": 2 * value, "time_total_s": 1.0} | others


def failed(reason, step=0):
    """A lane's report that an attempt came to nothing: it has no metrics."""
    return {"attempt": "first", "step": step, "seconds": 1.0, "lane": "lane-0", "failure": reason}


def run(searcher, trial, *values, every=10):
    """A trial with these values, which then ends."""
    for index, reached in enumerate(values, start=1):
        searcher.on_trial_result(trial, result(every * index, reached))
    searcher.on_trial_complete(trial, result(every * len(values), values[-1]))


def test_the_given_trials_come_first(path):
    space = small(sampler="random", points_to_evaluate=[{"num_layers": 5}])
    searcher = searching(path, space)
    given = space.first_trials()
    assert len(given) == 2
    assert [searcher.suggest(trial) for trial in "ab"] == [
        {"number": number, "params": params} for number, params in enumerate(given)
    ]
    assert searcher.suggest("c")["params"] not in given
    assert searcher._observer.started[:2] == list(enumerate(given))


def test_a_trial_is_suggested_when_a_lane_is_free_for_it(path, space):
    """Lanes come and go; while nothing runs there is a suggestion, for Tune would sleep over a None."""
    lanes = 1
    searcher = StudySearcher(open_at(path, space), space, STEPS, Log(), {}, lambda: lanes)
    assert searcher.suggest("a")["number"] == 0
    assert searcher.suggest("b") is None
    lanes = 3
    assert [searcher.suggest(trial)["number"] for trial in "bc"] == [1, 2]
    assert searcher.suggest("d") is None
    lanes = 2
    run(searcher, "a", 0.4)
    assert searcher.suggest("d") is None
    run(searcher, "b", 0.4)
    assert searcher.suggest("d")["number"] == 3
    lanes = 0
    run(searcher, "c", 0.4)
    assert searcher.suggest("e") is None
    run(searcher, "d", 0.4)
    assert searcher.suggest("e")["number"] == 4
    assert len(stored(path)) == 5


def test_a_budget_of_one_trial_has_the_documents_values_alone(path):
    whole = small(points_to_evaluate=[{"num_layers": 5}])
    space = small(
        points_to_evaluate=[{"num_layers": 5}],
        budget={"quick": whole.budget["quick"].model_dump() | {"trials": 1}},
    )
    open_at(path, space)
    assert [trial.params for trial in stored(path)] == [space.recommended()]


def test_a_finished_trial_is_complete(searcher, path):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_result("a", result(STEPS, 0.2))
    searcher.on_trial_complete("a", result(STEPS, 0.2))
    (trial,) = stored(path)
    assert trial.state is TrialState.COMPLETE
    assert trial.value == 0.2
    assert trial.intermediate_values == {50: 0.4, STEPS: 0.2}
    assert searcher._observer.reported == [(0, 50, 0.4), (0, STEPS, 0.2)]
    assert searcher._observer.ended == [(0, "COMPLETE", STEPS, 0.2, None)]


def test_the_study_keeps_its_progress(searcher, path):
    searcher.suggest("a")
    for step, reached in ((50, 0.4), (STEPS, 0.2)):
        searcher.on_trial_result("a", result(step, reached))
        (trial,) = stored(path)
        assert trial.user_attrs["progress"] == {
            "step": step,
            "seconds": step / 10,
            "lane": "lane-0",
            "metrics": {METRIC: reached, "train/loss": 2 * reached},  # nothing of Tune's own
            "decisions": [],
        }


def test_a_stopped_trial_is_pruned_with_its_last_step_and_value(searcher, path):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(20, 0.3))
    searcher.on_trial_complete("a", result(50, 0.4))  # a stopped trial's last report comes only here
    (trial,) = stored(path)
    assert trial.state is TrialState.PRUNED
    assert (trial.last_step, trial.value) == (50, 0.4)
    assert trial.user_attrs["progress"]["step"] == 50


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_value_fails_with_the_reason(searcher, path, value):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_complete("a", result(60, value))
    (trial,) = stored(path)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["failure"] == f"{METRIC} is {value} at step 60"
    assert trial.intermediate_values == {50: 0.4}
    assert trial.user_attrs["progress"]["metrics"][METRIC] == 0.4
    assert searcher._observer.ended == [(0, "FAIL", 50, 0.4, f"{METRIC} is {value} at step 60")]


def test_a_lane_s_failure_fails_with_its_reason(searcher, path):
    searcher.suggest("a")
    last = failed("train/loss is nan by step 50")
    searcher.on_trial_result("a", last)
    searcher.on_trial_complete("a", last)
    (trial,) = stored(path)
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["failure"] == "train/loss is nan by step 50"
    assert searcher._observer.ended == [(0, "FAIL", 0, None, "train/loss is nan by step 50")]


def test_a_dead_process_fails_with_a_reason(searcher, path):
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    (trial,) = stored(path)
    assert trial.state is TrialState.FAIL
    assert "died" in trial.user_attrs["failure"]


def test_a_trial_without_a_report_fails_with_a_reason(searcher, path):
    searcher.suggest("a")
    searcher.on_trial_complete("a")
    assert stored(path)[0].user_attrs["failure"] == "ended without a report"


@pytest.mark.parametrize(("objective", "best"), [({}, 0.1), ({"metric": PSNR, "mode": "max"}, 30.0)])
def test_a_trial_s_value_is_its_best_report(path, objective, best):
    space = small(sampler="random", **({"objective": objective} if objective else {}))
    searcher = searching(path, space)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.1, **{PSNR: 30.0}))
    searcher.on_trial_complete("a", result(STEPS, 0.2, **{PSNR: 20.0}))
    assert stored(path)[0].value == best


@pytest.mark.parametrize("why", ["no lane is left: lane-0 is lost: gone", "no space is left: /a/b: the disk is full"])
def test_what_every_trial_would_fail_of_ends_the_search_and_its_trials_are_left_to_be_resumed(
    searcher, path, space, why
):
    before = [searcher.suggest(trial) for trial in "ab"]
    searcher.on_trial_result("b", result(50, 0.4))
    for trial in "ab":
        searcher.on_trial_complete(trial, failed(why))
    assert searcher.halted == why
    assert searcher.suggest("c") == Searcher.FINISHED
    assert searcher._observer.ended == []
    again = searching(path, space)
    assert [again.suggest(trial) for trial in "ab"] == before


def test_a_retry_s_repeated_report_counts_once(searcher, path):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_result("a", result(50, 0.5, attempt="second"))
    searcher.on_trial_complete("a", result(STEPS, 0.2, attempt="second"))
    assert stored(path)[0].intermediate_values == {50: 0.4, STEPS: 0.2}
    assert searcher._observer.reported == [(0, 50, 0.4), (0, STEPS, 0.2)]
    assert searcher._observer.ended == [(0, "COMPLETE", STEPS, 0.2, None)]


def test_the_lane_time_of_all_attempts_counts(searcher, path):
    searcher.suggest("a")
    for step, attempt, seconds in ((10, "first", 5.0), (20, "first", 8.0), (20, "second", 1.0), (30, "second", 3.5)):
        searcher.on_trial_result("a", result(step, 0.4, attempt=attempt, seconds=seconds))
    assert stored(path)[0].user_attrs["progress"]["seconds"] == 8.0 + 3.5
    searcher.on_trial_complete("a", failed("out of memory") | {"attempt": "third", "seconds": 0.5})
    assert stored(path)[0].user_attrs["progress"]["seconds"] == 8.0 + 3.5 + 0.5


def decision(rung, go_on=True, rank=1):
    return Decision(go_on, rung, f"rank {rank} of 9 at rung {rung}, 3 may go on")


def noted(step, of):
    return {"step": step, "go_on": of.go_on, "rung": of.rung, "reason": of.reason}


def test_decisions_are_noted_once_per_rung_and_when_they_stop(path, space):
    decisions: dict[int, Decision] = {}
    searcher = searching(path, space, decisions)
    searcher.suggest("a")
    made = {
        10: decision(10, rank=1),
        20: decision(10, rank=2),
        30: decision(30, rank=1),
        40: decision(30, rank=3),
        50: decision(30, go_on=False, rank=4),
    }
    for step, one in made.items():
        decisions[0] = one
        if one.go_on:
            searcher.on_trial_result("a", result(step, 0.4))
        else:
            searcher.on_trial_complete("a", result(step, 0.4))
        assert decisions == {}
    (trial,) = stored(path)
    assert trial.state is TrialState.PRUNED
    assert trial.user_attrs["progress"]["decisions"] == [noted(step, made[step]) for step in (10, 30, 50)]
    assert searcher._observer.ended == [(0, "PRUNED", 50, 0.4, "rank 4 of 9 at rung 30, 3 may go on")]


def test_a_trial_that_is_through_was_not_stopped(path, space):
    decisions = {0: decision(30, go_on=False)}
    searcher = searching(path, space, decisions)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(STEPS, 0.4))
    (trial,) = stored(path)
    assert trial.state is TrialState.COMPLETE
    assert trial.user_attrs["progress"]["decisions"] == []
    assert decisions == {}


def test_each_trial_has_its_own_decisions(path, space):
    decisions: dict[int, Decision] = {}
    searcher = searching(path, space, decisions)
    for trial in "ab":
        searcher.suggest(trial)
    decisions[1] = decision(10)
    searcher.on_trial_result("a", result(10, 0.4))
    assert decisions == {1: decision(10)}
    searcher.on_trial_result("b", result(10, 0.4))
    assert [len(trial.user_attrs["progress"]["decisions"]) for trial in stored(path)] == [0, 1]


def test_an_interrupted_trial_comes_back_with_its_number_and_parameters(searcher, path, space):
    before = [searcher.suggest(trial) for trial in "ab"]
    searcher.on_trial_result("b", result(50, 0.4))
    searcher._ledger.close()

    again = searching(path, space)
    assert [again.suggest(trial) for trial in "cd"] == before
    again.on_trial_complete("d", result(STEPS, 0.2))
    trials = stored(path)
    assert trials[1].intermediate_values == {50: 0.4, STEPS: 0.2}
    assert len(trials) == 2


def test_a_resumed_trial_keeps_what_it_had(path, space):
    decisions = {0: decision(10)}
    searcher = searching(path, space, decisions)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(10, 0.1, seconds=7.0))
    searcher.on_trial_result("a", result(50, 0.4, seconds=9.0))

    again = searching(path, space, decisions)  # it was killed: nothing was closed
    again.suggest("b")
    decisions[0] = decision(10, rank=2)
    again.on_trial_result("b", result(50, 0.4, attempt="second", seconds=2.0))  # the lane repeats its last report
    decisions[0] = decision(30)
    again.on_trial_result("b", result(60, 0.3, attempt="second", seconds=4.0))
    again.on_trial_complete("b", result(STEPS, 0.2, attempt="second", seconds=5.0))
    (trial,) = stored(path)
    assert trial.value == 0.1  # of its first life
    assert trial.intermediate_values == {10: 0.1, 50: 0.4, 60: 0.3, STEPS: 0.2}
    progress = trial.user_attrs["progress"]
    assert progress["seconds"] == 9.0 + 5.0
    assert [(one["step"], one["rung"]) for one in progress["decisions"]] == [(10, 10), (60, 30)]
    assert progress["metrics"][METRIC] == 0.2


def test_a_trial_interrupted_at_its_last_report_is_complete_when_the_lane_repeats_it(path, space):
    searcher = searching(path, space)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_result("a", result(STEPS, 0.2))

    again = searching(path, space)
    again.suggest("b")
    again.on_trial_complete("b", result(STEPS, 0.2, attempt="second"))
    (trial,) = stored(path)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.2)
    assert again._observer.ended == [(0, "COMPLETE", STEPS, 0.2, None)]


class Killed(BaseException):
    """As if the process had ended here."""


def die(*arguments):
    raise Killed


def test_a_search_killed_while_it_stops_a_trial_stops_it_again(path, space, monkeypatch):
    """The decision is on disk, the trial's end is not."""
    decisions = {0: decision(10, go_on=False, rank=4)}
    searcher = searching(path, space, decisions)
    searcher.suggest("a")
    monkeypatch.setattr(searcher._ledger, "tell", die)
    with pytest.raises(Killed):
        searcher.on_trial_complete("a", result(10, 0.4))
    assert stored(path)[0].state is TrialState.RUNNING

    again = searching(path, space, decisions)
    again.suggest("b")
    decisions[0] = decision(10, go_on=False, rank=4)
    again.on_trial_complete("b", result(10, 0.4, attempt="second"))
    (trial,) = stored(path)
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.4)
    assert trial.user_attrs["progress"]["decisions"] == [noted(10, decision(10, go_on=False, rank=4))]


def search(path, space, trials, killed_after=()):
    """All that a search on one lane leaves in its study. It is killed after some of its reports, and resumed.

    A lane goes on from its checkpoint, which it writes before it reports: it repeats its last report.
    """
    budget, reports = space.budget[PRESET], 0
    checkpoints: dict[int, int] = {}
    while True:
        ledger = open_at(path, space)
        stopping = EarlyStopping(rule(space, budget), space.watched, exempt=(0,))
        for trial in ledger.trials:
            stopping.replay(trial.number, trial.intermediate_values)
        searcher = StudySearcher(ledger, space, budget.steps, Log(), stopping.decisions)
        while sum(trial.state.is_finished() for trial in ledger.trials) < trials:
            config = searcher.suggest("a")
            number, goes_on = config["number"], True
            for step in budget.report_steps():
                if step < checkpoints.get(number, 0) or not goes_on:
                    continue
                checkpoints[number] = step
                told = result(step, value(config["params"], step), attempt=str(reports))
                verdict = stopping.on_trial_result(None, SimpleNamespace(config=config), told)
                goes_on = verdict == CONTINUE and step < budget.steps
                (searcher.on_trial_result if goes_on else searcher.on_trial_complete)("a", told)
                reports += 1
                if reports in killed_after:
                    break
            if reports in killed_after:
                break
        else:
            break
    return [
        (one.state, one.params, one.intermediate_values, one.values, one.user_attrs["progress"]["decisions"])
        for one in stored(path)
    ]


@pytest.mark.parametrize("scheduler", ["asha", pytest.param("median", marks=pytest.mark.slow)])
def test_a_search_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path, scheduler):
    space = small(sampler="tpe", scheduler=scheduler, seed=1)
    undisturbed = search(tmp_path / "one.db", space, 16)
    assert {row[0] for row in undisturbed} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert search(tmp_path / "two.db", space, 16, killed_after=range(1, 400, 4)) == undisturbed


@pytest.mark.parametrize("reports", [1, 2])
def test_a_search_killed_within_a_report_makes_it_again(path, space, monkeypatch, reports):
    """Progress is on disk, the report is not."""
    searcher = searching(path, space)
    searcher.suggest("a")
    values = {10: 0.1, 20: 0.2}
    for step in list(values)[: reports - 1]:
        searcher.on_trial_result("a", result(step, values[step]))
    last = list(values)[reports - 1]

    monkeypatch.setattr(searcher._ledger, "report", die)
    with pytest.raises(Killed):
        searcher.on_trial_result("a", result(last, values[last]))
    assert last not in stored(path)[0].intermediate_values

    again = searching(path, space)
    again.suggest("b")
    again.on_trial_result("b", result(last, values[last], attempt="second"))
    again.on_trial_complete("b", result(STEPS, 0.3, attempt="second"))
    (trial,) = stored(path)
    assert trial.intermediate_values == {step: values[step] for step in list(values)[:reports]} | {STEPS: 0.3}
    assert trial.value == 0.1


def test_constraints_are_told_by_how_much_they_are_violated(path):
    constraints = [{"metric": PSNR, "low": 30.0}, {"metric": "val/kl", "high": 5.0}]
    searcher = searching(path, small(sampler="random", constraints=constraints))
    for trial in "abcd":
        searcher.suggest(trial)
    searcher.on_trial_result("a", result(50, 0.4, **{PSNR: 25.0, "val/kl": 9.0}))
    searcher.on_trial_complete("a", result(STEPS, 0.4, **{PSNR: 32.0, "val/kl": 6.5}))  # the last report's count
    searcher.on_trial_complete("b", result(50, 0.4, **{PSNR: 29.0, "val/kl": 1.0}))
    searcher.on_trial_complete("c", failed("out of memory"))
    searcher.on_trial_complete("d", result(50, 0.4, **{PSNR: math.nan, "val/kl": 1.0}))
    trials = stored(path)
    assert trials[0].constraints == {PSNR: -2.0, "val/kl": 1.5}
    assert (trials[1].state, trials[1].constraints) == (TrialState.PRUNED, {PSNR: 1.0, "val/kl": -4.0})
    assert (trials[2].state, trials[2].constraints) == (TrialState.FAIL, {})
    assert (trials[3].state, trials[3].user_attrs["failure"]) == (TrialState.FAIL, f"{PSNR} is nan at step 50")


@pytest.fixture
def pareto(path):
    further = [{"metric": PSNR, "mode": "max"}]
    return searching(path, small(sampler="nsga2", scheduler="none", further_objectives=further))


def test_several_objectives_have_their_last_values(pareto, path):
    pareto.suggest("a")
    pareto.on_trial_result("a", result(50, 0.1, **{PSNR: 33.0}))
    pareto.on_trial_result("a", result(STEPS, 0.2, **{PSNR: 31.0}))
    pareto.on_trial_complete("a", result(STEPS, 0.2, **{PSNR: 31.0}))
    (trial,) = stored(path)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.2, 31.0])
    assert trial.intermediate_values == {50: 0.1, STEPS: 0.2}  # of the first one
    assert pareto._observer.ended == [(0, "COMPLETE", STEPS, 0.2, None)]


def test_several_objectives_are_known_after_a_resume(pareto, path):
    pareto.suggest("a")
    pareto.on_trial_result("a", result(STEPS, 0.2, **{PSNR: 31.0}))
    again = searching(path, pareto._space)
    again.suggest("b")
    again.on_trial_complete("b", result(STEPS, 0.2, attempt="second", **{PSNR: 31.0}))
    assert stored(path)[0].values == [0.2, 31.0]


@pytest.mark.parametrize("second", [{PSNR: math.nan}, {PSNR: -math.inf}, {}])
def test_each_of_several_objectives_must_be_finite(pareto, path, second):
    pareto.suggest("a")
    pareto.on_trial_result("a", result(50, 0.1, **{PSNR: 33.0}))
    pareto.on_trial_complete("a", result(STEPS, 0.2, **second))
    (trial,) = stored(path)
    assert (trial.state, trial.values) == (TrialState.FAIL, None)
    assert trial.user_attrs["failure"] == f"{PSNR} is {second.get(PSNR, math.nan)} at step {STEPS}"


def test_a_conditional_parameter_exists_only_when_its_condition_holds(path):
    cycles = {"low": 1, "high": 8, "recommended": 4, "source": "test", "when": {"lr_schedule": ["one_cycle"]}}
    plain = small("lr_schedule").model_dump(mode="json", exclude_none=True)["search"]
    space = small(sampler="tpe", search=plain | {"kl_cycles": cycles})
    searcher = searching(path, space)
    drawn = []
    for trial in range(25):
        drawn.append(searcher.suggest(str(trial))["params"])
        run(searcher, str(trial), 1.0 - 0.01 * trial)
    assert {params["lr_schedule"] == "one_cycle" for params in drawn} == {True, False}
    assert all(("kl_cycles" in params) == (params["lr_schedule"] == "one_cycle") for params in drawn)
    assert all(trial.params == params for trial, params in zip(stored(path), drawn, strict=True))


def test_tune_s_own_copy_of_it_holds_nothing(searcher):
    """Tune pickles its parts when a search starts, and a database connection cannot be pickled."""
    assert vars(pickle.loads(pickle.dumps(searcher))) == {}
    with pytest.raises(NotImplementedError, match="resumed from its study"):
        searcher.restore("checkpoint")
