"""The searcher against a real SQLite study, driven as Tune drives it."""

import math

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.searcher import StudySearcher, open_study, requeue
from spaces.loading import load

METRIC = "val/prior_rel_l2"
STEPS = 100


class Log:
    """Keeps what the searcher tells its observer."""

    def __init__(self):
        self.ended = []

    def trial_started(self, number, params): ...
    def trial_reported(self, number, step, value): ...

    def trial_ended(self, number, state, step, value, reason):
        self.ended.append((number, state, step, value, reason))


@pytest.fixture
def space():
    return load("cvae_psf")


@pytest.fixture
def study(tmp_path, space):
    return open_study(f"sqlite:///{tmp_path}/study.db", "test", space, space.budget["quick"])


@pytest.fixture
def searcher(study, space):
    return StudySearcher(study, space, STEPS, Log())


def result(step, value, failure=None):
    return {"step": step, "seconds": step / 10, "lane": "lane-0", "failure": failure, METRIC: value}


def test_the_given_trials_come_first(searcher, study, space):
    given = space.first_trials()
    assert len(given) == 2
    assert [searcher.suggest(trial)["params"] for trial in "ab"] == given
    assert searcher.suggest("c")["params"] not in given


def test_a_finished_trial_is_complete(searcher, study):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_complete("a", result(STEPS, 0.2))
    trial = study.trials[0]
    assert trial.state is TrialState.COMPLETE
    assert trial.value == 0.2
    assert trial.intermediate_values == {50: 0.4, STEPS: 0.2}
    assert trial.user_attrs["seconds"] == 10
    assert trial.user_attrs["recommended"] is True


def test_a_stopped_trial_is_pruned_with_its_last_step_and_value(searcher, study):
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(50, 0.4))
    trial = study.trials[0]
    assert trial.state is TrialState.PRUNED
    assert (trial.last_step, trial.value) == (50, 0.4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_value_fails_with_the_reason(searcher, study, value):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_complete("a", result(60, value))
    trial = study.trials[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["failure"] == f"{METRIC} is {value} at step 60"


def test_a_lane_s_failure_fails_with_its_reason(searcher, study):
    searcher.suggest("a")
    last = {"step": 0, "seconds": 1.0, "lane": "lane-0", "failure": "train/loss is nan by step 50"}
    searcher.on_trial_result("a", last)
    searcher.on_trial_complete("a", last)
    trial = study.trials[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["failure"] == "train/loss is nan by step 50"


def test_a_trial_s_value_is_its_best_report(searcher, study):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.1))
    searcher.on_trial_complete("a", result(STEPS, 0.2))
    assert study.trials[0].value == 0.1


def test_without_lanes_the_search_ends_and_its_trial_is_left_to_be_resumed(searcher, study):
    searcher.suggest("a")
    searcher.on_trial_complete(
        "a", {"step": 0, "seconds": 0.0, "lane": "", "failure": "no lane is left: lane-0 is lost: gone"}
    )
    assert searcher.suggest("b") == Searcher.FINISHED
    assert requeue(study) == [0]


def test_a_dead_process_fails_with_a_reason(searcher, study):
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    trial = study.trials[0]
    assert trial.state is TrialState.FAIL
    assert "died" in trial.user_attrs["failure"]


def test_a_retry_s_repeated_report_counts_once(searcher, study):
    searcher.suggest("a")
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_result("a", result(50, 0.4))
    searcher.on_trial_complete("a", result(STEPS, 0.2))
    assert study.trials[0].intermediate_values == {50: 0.4, STEPS: 0.2}
    assert searcher._observer.ended == [(0, "COMPLETE", STEPS, 0.2, None)]


def test_an_interrupted_trial_comes_back_with_its_number_and_parameters(searcher, study, space):
    searcher.suggest("a")
    before = searcher.suggest("b")
    searcher.on_trial_result("b", result(50, 0.4))
    assert requeue(study) == [0, 1]

    again = StudySearcher(study, space, STEPS, Log())
    assert again.suggest("c")["number"] == 0
    assert again.suggest("d") == before
    again.on_trial_complete("d", result(STEPS, 0.2))
    assert study.trials[1].intermediate_values == {50: 0.4, STEPS: 0.2}
    assert len(study.trials) == 2


def test_the_same_seed_suggests_the_same(tmp_path, space):
    def params(name):
        study = optuna.create_study(
            storage=f"sqlite:///{tmp_path}/{name}.db", sampler=optuna.samplers.TPESampler(seed=3)
        )
        searcher = StudySearcher(study, space, STEPS, Log())
        chosen = []
        for trial in range(12):
            chosen.append(searcher.suggest(str(trial))["params"])
            searcher.on_trial_complete(str(trial), result(STEPS, 1.0 / (1 + trial)))
        return chosen

    assert params("one") == params("two")


def test_a_conditional_parameter_exists_only_when_its_condition_holds(tmp_path):
    space = load(
        "cvae_psf",
        [
            "search.kl_cycles={low: 1, high: 8, recommended: 4, source: test, when: {lr_schedule: [one_cycle]}}",
        ],
    )
    study = optuna.create_study()
    searcher = StudySearcher(study, space, STEPS, Log())
    drawn = [searcher.suggest(str(trial))["params"] for trial in range(20)]
    assert {params["lr_schedule"] == "one_cycle" for params in drawn} == {True, False}
    assert all(("kl_cycles" in params) == (params["lr_schedule"] == "one_cycle") for params in drawn)
