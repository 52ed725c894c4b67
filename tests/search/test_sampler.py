"""Fair ranks of trials of different lengths, and a sampler that learns from them."""

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from search.sampler import FairSampler, fair_ranks

LEVELS = (10, 30, 90)


def ranks(*curves, mode="min"):
    return fair_ranks(curves, LEVELS, 3, mode)


def test_trials_that_ended_at_one_rung_rank_by_value():
    assert ranks({10: 3.0}, {10: 1.0}, {10: 2.0}) == [2, 0, 1]
    assert ranks({10: 3.0}, {10: 1.0}, {10: 2.0}, mode="max") == [0, 2, 1]


def test_a_trial_that_rightly_went_on_ranks_before_those_that_did_not():
    went_on = {10: 1.0, 30: 0.9}
    assert ranks({10: 1.1}, went_on, {10: 1.2}) == [1, 0, 2]


def test_a_bad_trial_that_ran_to_the_end_ranks_as_bad_as_its_first_rung():
    exempt = {10: 9.0, 30: 8.5, 90: 8.0}
    assert ranks(exempt, {10: 1.0, 30: 0.5}, {10: 2.0}) == [2, 0, 1]


def test_a_lucky_first_arrival_loses_its_place_when_better_ones_come():
    first = {10: 5.0, 30: 4.0, 90: 3.0}
    assert ranks(first, {10: 2.0}, {10: 1.0, 30: 0.5})[0] == 2


def test_a_trial_stopped_when_places_were_few_is_ranked_by_its_last_value():
    """It would pass now, but nothing is known of it beyond its rung."""
    assert ranks(*({10: float(value)} for value in range(6)), {10: -1.0, 30: 0.0}) == [1, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_trials_without_a_value_come_last(mode):
    assert ranks({}, {10: 1.0}, {10: float("nan")}, mode=mode)[1] == 0


def stopped(x, value, steps=(10,), state=TrialState.PRUNED):
    return create_trial(
        state=state,
        params={"x": x},
        distributions={"x": FloatDistribution(0, 1)},
        value=value if state is TrialState.COMPLETE else None,
        intermediate_values=dict.fromkeys(steps, value),
    )


def test_a_bad_trial_at_full_budget_does_not_draw_the_search():
    """Trials near x = 0 are good and stopped; one at x = 1 is bad and complete. Fairly told, the sampler goes to 0."""

    def mean_of_suggestions(wrap):
        def make(number):
            return optuna.samplers.TPESampler(seed=number, n_startup_trials=1)

        study = optuna.create_study(sampler=FairSampler(make, LEVELS, 3) if wrap else make(0))
        study.add_trials([stopped(i / 20, 1.0 + i / 20) for i in range(15)])
        study.add_trial(stopped(1.0, 50.0, LEVELS, TrialState.COMPLETE))
        drawn = []
        for _ in range(20):
            trial = study.ask()
            drawn.append(trial.suggest_float("x", 0, 1))
            study.tell(trial, state=TrialState.FAIL)
        return sum(drawn) / len(drawn)

    assert mean_of_suggestions(wrap=True) < min(0.4, mean_of_suggestions(wrap=False))


def test_a_resumed_search_suggests_what_an_undisturbed_one_would(tmp_path):
    def suggest(count, interrupted_at=None):
        study = None
        drawn = []
        for number in range(count):
            if study is None or number == interrupted_at:
                sampler = FairSampler(lambda n: optuna.samplers.TPESampler(seed=n, n_startup_trials=3), LEVELS, 3)
                name = f"sqlite:///{tmp_path}/{interrupted_at}.db"
                study = optuna.create_study(storage=name, study_name="s", sampler=sampler, load_if_exists=True)
            trial = study.ask()
            drawn.append(trial.suggest_float("x", 0, 1))
            trial.report(drawn[-1], 10)
            study.tell(trial, state=TrialState.PRUNED)
        return drawn

    assert suggest(8) == suggest(8, interrupted_at=5)
