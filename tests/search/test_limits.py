"""What ends a search before its last trial, asked as Tune asks: after every result."""

import math
import pickle

import pytest
from optuna.trial import TrialState

from search.limits import LEAST_TRIALS, Limits
from spaces.study import Study
from tests.search.small import METRIC, PRESET, edited, open_at, small

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # the terminator is

PSNR = {"metric": "val/prior_psnr", "mode": "max"}


def limited(*names: str, objective=None, constraints=(), **budget) -> Study:
    """A space whose budget has limits."""
    plain = small().budget[PRESET].model_dump()
    return small(
        *names,
        sampler="random",
        objective=objective or {"metric": METRIC, "mode": "min"},
        constraints=constraints,
        budget={PRESET: plain | budget},
    )


class Search:
    """A ledger and its limits; trials end with the values that they are given."""

    def __init__(self, path, space):
        self.ledger = open_at(path, space)
        self.limits = Limits(space.budget[PRESET], space.objective.mode, self.ledger)
        self._space = space

    def trial(self, value, state=TrialState.COMPLETE, violation=None):
        """Another trial; `value` is a number, or what becomes of its parameters."""
        number, params = self.ledger.ask()
        reached = value(params) if callable(value) else value
        self.ledger.report(number, 200, reached)
        constraints = None if violation is None else {"val/kl": violation}
        self.ledger.tell(number, state, [reached] if state is TrialState.COMPLETE else None, constraints)
        return self

    def trials(self, count, value, **options):
        for _ in range(count):
            self.trial(value, **options)
        return self

    def ended(self):
        """What Tune is told, and why."""
        assert self.limits("a trial", {"step": 1}) is False  # it stops the search, never a trial
        return self.limits.stop_all(), self.limits.reason


@pytest.fixture
def search(tmp_path):
    return lambda space: Search(tmp_path / "study.db", space)


def test_without_limits_nothing_ends_a_search(search):
    assert search(limited()).trials(LEAST_TRIALS + 1, 1e-9).ended() == (False, None)


def test_hours_that_have_passed(search):
    assert search(limited(max_hours=1e-12)).ended() == (True, "max_hours: 1e-12 h have passed")


def test_hours_that_have_not(search):
    assert search(limited(max_hours=1e6)).trials(3, 1.0).ended() == (False, None)


@pytest.mark.parametrize(
    ("objective", "values", "target", "reason"),
    [
        (None, [0.5, 0.2], 0.1, None),
        (None, [0.5, 0.1, 0.05], 0.1, "target: trial 1 reached 0.1, 0.1 was asked for"),
        (None, [0.5, 0.05], 0.1, "target: trial 1 reached 0.05, 0.1 was asked for"),
        (PSNR, [25.0, 29.9], 30.0, None),
        (PSNR, [25.0, 31.0], 30.0, "target: trial 1 reached 31, 30 was asked for"),
    ],
)
def test_a_target_is_reached_in_the_objective_s_direction(search, objective, values, target, reason):
    running = search(limited(objective=objective, target=target))
    for value in values:
        running.trial(value)
    assert running.ended() == (reason is not None, reason)


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_a_target_takes_a_trial_that_had_the_full_budget(search, state):
    running = search(limited(target=0.1)).trial(0.01, state)
    assert running.ended() == (False, None)
    assert running.trial(0.02).ended() == (True, "target: trial 1 reached 0.02, 0.1 was asked for")


def test_a_trial_outside_the_constraints_reaches_no_target(search):
    running = search(limited(target=0.1, constraints=[{"metric": "val/kl", "high": 5.0}]))
    assert running.trial(0.01, violation=0.5).ended() == (False, None)
    assert running.trial(0.02, violation=0.0).ended()[0]


def test_an_ended_search_stays_ended_for_its_first_reason(search):
    running = search(limited(target=0.1, max_hours=1e6)).trial(0.01)
    reason = running.ended()[1]
    assert reason is not None
    assert running.trial(0.001).ended() == (True, reason)


def test_a_target_that_was_reached_before_the_search_was_resumed_ends_it(tmp_path):
    space = limited(target=0.1)
    Search(tmp_path / "study.db", space).trial(0.01).ledger.close()
    assert Search(tmp_path / "study.db", space).ended()[0]


def flat(params):
    """All rates are as good, to a ten-thousandth."""
    return 0.01 * (1 + 1e-5 * math.log10(params["learning_rate"]) ** 2)


def steep(params):
    """Falls by a decade with each of the rate's, to the end of the range; far less than 0.05, which is no gain in itself."""
    return 1e-8 / params["learning_rate"]


NO_GAIN = "least_gain: a further gain of 5 % is not expected (Optuna's terminator)"


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_a_search_that_has_converged_ends(search, state):
    running = search(limited("learning_rate", least_gain=0.05))
    assert running.trials(LEAST_TRIALS - 1, flat, state=state).ended() == (False, None)  # too young
    assert running.trial(flat, TrialState.FAIL).ended() == (False, None)  # tells nothing
    assert running.trial(flat, state).ended() == (True, NO_GAIN)


def test_a_search_that_improves_goes_on(search):
    running = search(limited("learning_rate", least_gain=0.05)).trials(LEAST_TRIALS + 5, steep)
    assert running.ended() == (False, None)


@pytest.mark.parametrize(
    ("objective", "sign"), [(PSNR, 1.0), ({"metric": "val/prior_gap", "mode": "min"}, -1.0)], ids=["max", "negative"]
)
def test_a_gain_is_relative_to_the_best_where_there_is_no_logarithm(search, objective, sign):
    """Of PSNR in dB, and of an error that is a difference and may be negative."""
    running = search(limited("learning_rate", least_gain=0.05, objective=objective))
    running.trials(LEAST_TRIALS, lambda params: sign * 1000 * flat(params))
    assert running.ended() == (True, NO_GAIN)


def test_a_search_to_the_greatest_that_improves_goes_on(search):
    running = search(limited("learning_rate", least_gain=0.05, objective=PSNR))
    assert running.trials(LEAST_TRIALS, lambda params: -1.0 / steep(params)).ended() == (False, None)


def test_trials_from_other_ranges_say_nothing_of_today_s(tmp_path):
    before = limited("learning_rate", least_gain=0.05)
    Search(tmp_path / "study.db", before).trials(LEAST_TRIALS + 1, flat).ledger.close()
    running = Search(tmp_path / "study.db", edited(before, learning_rate={"high": 1e-1})).trial(flat)
    assert running.ended() == (False, None)
    assert running.trials(LEAST_TRIALS - 1, flat).ended() == (True, NO_GAIN)


def test_tune_s_own_copy_of_it_holds_nothing(search):
    assert vars(pickle.loads(pickle.dumps(search(limited()).limits))) == {}
