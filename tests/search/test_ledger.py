"""The ledger against its file, which a second reader opens after every change."""

import math
import sqlite3

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from search.ledger import Ledger
from search.sampler import given
from spaces.study import Objective
from tests.search.small import edited, open_at, small, stored, value


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


@pytest.fixture
def space():
    return small(sampler="random")


@pytest.fixture
def ledger(path, space):
    return open_at(path, space)


def assert_equal_trials(ledger, path):
    """What the ledger says is what the file says."""
    assert ledger.trials == stored(path)
    assert [one.number for one in ledger.trials] == list(range(len(ledger.trials)))


def test_every_change_is_on_disk_at_once(ledger, path, space):
    assert [trial.state for trial in stored(path)] == [TrialState.WAITING]  # the reference

    number, params = ledger.ask()
    (first,) = stored(path)
    assert (number, first.state, first.params) == (0, TrialState.RUNNING, params)
    assert params == space.recommended()
    assert first.datetime_start is not None

    number, params = ledger.ask()
    assert number == 1
    assert stored(path)[1].state is TrialState.RUNNING
    assert stored(path)[1].params == params
    assert_equal_trials(ledger, path)

    ledger.report(1, 200, 0.5)
    assert stored(path)[1].intermediate_values == {200: 0.5}
    ledger.report(1, 400, 0.25)
    assert stored(path)[1].intermediate_values == {200: 0.5, 400: 0.25}
    assert stored(path)[0].intermediate_values == {}

    ledger.note(1, progress={"step": 400, "metrics": {"val/kl": 3.5}}, failure="no")
    assert stored(path)[1].user_attrs == {"progress": {"step": 400, "metrics": {"val/kl": 3.5}}, "failure": "no"}
    ledger.note(1, failure="yes")
    assert stored(path)[1].user_attrs["failure"] == "yes"
    assert_equal_trials(ledger, path)

    ledger.tell(1, TrialState.PRUNED, None)
    assert stored(path)[1].state is TrialState.PRUNED
    assert stored(path)[1].datetime_complete is not None
    assert_equal_trials(ledger, path)


@pytest.mark.parametrize(
    ("state", "values", "expected"),
    [("COMPLETE", [0.1], 0.1), ("PRUNED", None, 0.25), ("FAIL", None, None)],
)
def test_an_end_is_on_disk_with_its_value(ledger, path, space, state, values, expected):
    """A stopped trial's is its last report, the best or not."""
    ledger.ask()
    ledger.report(0, 200, 0.125)
    ledger.report(0, 400, 0.25)
    ledger.tell(0, TrialState[state], values)
    (trial,) = stored(path)
    assert (trial.state.name, trial.value) == (state, expected)
    assert trial.intermediate_values == {200: 0.125, 400: 0.25}
    assert_equal_trials(ledger, path)


def test_a_trial_stopped_without_a_report_has_no_value(ledger, path, space):
    ledger.ask()
    ledger.tell(0, TrialState.PRUNED, None)
    assert stored(path)[0].value is None


def test_enqueued_trials_come_first_and_in_order(ledger, path, space):
    queue = [space.recommended() | {"num_layers": layers} for layers in (3, 5)]
    for params in queue:
        ledger.enqueue(given(space, params))
    assert [trial.state for trial in stored(path)] == [TrialState.WAITING] * 3
    assert [ledger.ask() for _ in range(3)] == list(enumerate([space.recommended(), *queue]))
    assert ledger.ask()[0] == 3
    assert_equal_trials(ledger, path)


def test_numbers_stay_in_step_whatever_the_order_of_ends(ledger, path, space):
    for _ in range(6):
        ledger.ask()
    for number in (4, 0, 5):
        ledger.report(number, 200, float(number))
        ledger.tell(number, TrialState.COMPLETE, [float(number)])
    ledger.enqueue(given(space, space.recommended()))
    assert [ledger.ask()[0] for _ in range(2)] == [6, 7]
    ledger.tell(7, TrialState.FAIL, None)
    assert_equal_trials(ledger, path)


def interrupt(ledger, space):
    """Three trials of which one has ended, one has reported and one not."""
    params = [ledger.ask()[1] for _ in range(3)]
    ledger.report(0, 200, 0.3)
    ledger.note(0, progress={"step": 200})
    ledger.report(1, 200, 0.5)
    ledger.tell(1, TrialState.PRUNED, None)
    return params


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_what_ran_waits_and_is_asked_for_first(ledger, path, space, closed):
    """Closed in order, or not at all: a killed search leaves its trials running."""
    params = interrupt(ledger, space)
    if closed:
        ledger.close()
        assert [trial.state.name for trial in stored(path)] == ["WAITING", "PRUNED", "WAITING"]
    else:
        assert [trial.state.name for trial in stored(path)] == ["RUNNING", "PRUNED", "RUNNING"]
    again = open_at(path, space)
    assert [trial.state.name for trial in stored(path)] == ["WAITING", "PRUNED", "WAITING"]
    assert_equal_trials(again, path)

    assert again.ask() == (0, params[0])
    assert again.ask() == (2, params[2])
    assert again.trial(0).intermediate_values == {200: 0.3}
    assert again.trial(0).user_attrs == {"progress": {"step": 200}}
    assert again.ask()[0] == 3
    assert [trial.state.name for trial in stored(path)] == ["RUNNING", "PRUNED", "RUNNING", "RUNNING"]

    again.report(0, 400, 0.2)
    again.tell(0, TrialState.COMPLETE, [0.2])
    assert stored(path)[0].intermediate_values == {200: 0.3, 400: 0.2}
    assert_equal_trials(again, path)


def test_a_given_trial_that_never_ran_waits_with_its_values(path, space):
    given = {**space.recommended(), "num_layers": 5}
    space = small(sampler="random", points_to_evaluate=[given])
    first = open_at(path, space)
    first.ask()
    first.close()
    again = open_at(path, space)
    assert [again.ask() for _ in range(2)] == [(0, space.recommended()), (1, given)]
    assert_equal_trials(again, path)


def test_reopening_enqueues_nothing_twice(ledger, path, space):
    interrupt(ledger, space)
    for _ in range(3):
        ledger.close()
        ledger = open_at(path, space)
    assert len(stored(path)) == len(ledger.trials) == 3


def test_a_trial_may_be_interrupted_again_and_again(ledger, path, space):
    params = ledger.ask()[1]
    for step in (200, 400, 600):
        ledger.report(0, step, 1 / step)
        ledger.close()
        ledger = open_at(path, space)
        assert ledger.ask() == (0, params)
    assert stored(path)[0].intermediate_values == {200: 1 / 200, 400: 1 / 400, 600: 1 / 600}


@pytest.mark.parametrize(
    ("sampler", "trials", "key"),
    [("grid", 3, "grid_id"), ("cmaes", 20, "cma:generation"), ("nsga2", 3, "NSGAIISampler:generation")],
)
def test_what_samplers_keep_with_a_trial_is_on_disk(path, sampler, trials, key):
    space = small(sampler=sampler)
    ledger = open_at(path, space)
    for _ in range(trials):
        number, params = ledger.ask()
        ledger.report(number, 200, value(params, 200))
        ledger.tell(number, TrialState.COMPLETE, [value(params, 200)])
    number, _ = ledger.ask()  # one that runs when the search is killed
    assert_equal_trials(ledger, path)
    assert key in stored(path)[-2].system_attrs
    assert stored(path)[-1].system_attrs == ledger.trial(number).system_attrs
    kept = ledger.trial(number).system_attrs
    again = open_at(path, space)
    assert again.ask()[0] == number
    assert again.trial(number).system_attrs == kept
    if sampler == "cmaes":
        assert any(name.startswith("cma:optimizer") for trial in stored(path) for name in trial.system_attrs)


def test_constraints_are_on_disk(ledger, path, space):
    for constraints in ({"val/kl": -1.0, "val/prior_psnr": 2.5}, {"val/kl": 0.5, "val/prior_psnr": 0.0}):
        number, _ = ledger.ask()
        ledger.tell(number, TrialState.COMPLETE, [0.5], constraints)
        assert stored(path)[number].constraints == constraints
    assert_equal_trials(ledger, path)
    ledger.close()
    assert [trial.constraints for trial in open_at(path, space).trials] == [
        {"val/kl": -1.0, "val/prior_psnr": 2.5},
        {"val/kl": 0.5, "val/prior_psnr": 0.0},
    ]


def test_several_objectives(path):
    space = small(scheduler="none", sampler="nsga2", further_objectives=[{"metric": "val/prior_psnr", "mode": "max"}])
    ledger = open_at(path, space)
    for error in (0.5, 0.25):
        number, _ = ledger.ask()
        ledger.report(number, 200, error)
        ledger.tell(number, TrialState.COMPLETE, [error, 40 * error])
    number, _ = ledger.ask()
    ledger.tell(number, TrialState.FAIL, None)
    assert [trial.values for trial in stored(path)] == [[0.5, 20.0], [0.25, 10.0], None]
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{path}")
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert {trial.number for trial in study.best_trials} == {0, 1}
    ledger.close()
    assert_equal_trials(open_at(path, space), path)


def test_what_is_maximised(tmp_path):
    objective = Objective(metric="val/prior_psnr", mode="max")
    Ledger(f"sqlite:///{tmp_path}/study.db", "max", [objective], lambda trials: trials[0])
    study = optuna.load_study(study_name="max", storage=f"sqlite:///{tmp_path}/study.db")
    assert study.direction.name == "MAXIMIZE"


def test_choices_may_change_between_searches(ledger, path):
    """A trial that was interrupted keeps its value, drawn from what was valid then."""
    before = small(sampler="random")
    drawn = [ledger.ask()[1] for _ in range(8)]
    assert "one_cycle" in {drawn[number]["lr_schedule"] for number in (0, 3, 4, 5, 6, 7)}
    for number in (1, 2):
        ledger.tell(number, TrialState.COMPLETE, [1.0])
    ledger.close()

    now = edited(before, lr_schedule={"choices": ["constant", "cosine"]}, learning_rate={"high": 2e-4, "low": 1e-6})
    again = open_at(path, now)
    waiting = [0, 3, 4, 5, 6, 7]
    assert [again.ask() for _ in waiting] == [(number, drawn[number]) for number in waiting]
    fresh = [again.ask() for _ in range(12)]
    assert [number for number, _ in fresh] == list(range(8, 20))
    assert {params["lr_schedule"] for _, params in fresh} == {"constant", "cosine"}
    assert all(1e-6 <= float(params["learning_rate"]) <= 2e-4 for _, params in fresh)
    assert_equal_trials(again, path)
    trials = stored(path)
    assert trials[7].distributions["lr_schedule"] == CategoricalDistribution(("constant", "cosine", "one_cycle"))
    assert trials[8].distributions["lr_schedule"] == CategoricalDistribution(("constant", "cosine"))


def test_a_given_trial_is_drawn_from_changed_choices(path):
    """It waited, never asked for, while another trial was drawn from the old ones."""
    before = small(sampler="random", points_to_evaluate=[{"num_layers": 5}])
    first = open_at(path, before)
    first.ask()
    first.close()
    now = edited(before, lr_schedule={"choices": ["constant", "cosine"]})
    again = open_at(path, now)
    assert [again.ask()[0] for _ in range(2)] == [0, 1]
    assert stored(path)[1].params == {**before.recommended(), "num_layers": 5}


@pytest.mark.parametrize("number", [1e-300, 0.1 + 0.2, math.pi * 1e17])
def test_values_come_back_to_the_last_bit(ledger, path, space, number):
    ledger.ask()
    ledger.report(0, 200, number)
    ledger.tell(0, TrialState.COMPLETE, [number])
    assert (stored(path)[0].value, stored(path)[0].intermediate_values) == (number, {200: number})


def test_a_killed_search_leaves_a_sound_database_in_wal_mode(ledger, path, space):
    interrupt(ledger, space)
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
    finally:
        connection.close()
