"""Fair ranks of trials of different lengths, and what samplers are shown of them."""

import itertools
import math
from statistics import mean

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState, create_trial

from results.distributions import distributions, suggest
from search.sampler import (
    GOOD,
    MODELS,
    SAMPLERS,
    SHOWN,
    Suggestions,
    at_levels,
    fair_ranks,
    share,
)
from tests.search.small import (
    CHANGES,
    METRIC,
    PARETO,
    PRESET,
    RUNGS,
    STEPS,
    edited,
    inside,
    open_at,
    play,
    small,
)

LEVELS = (10, 30, 90)


def ranks(*curves, levels=LEVELS, mode="min"):
    return fair_ranks([at_levels(curve, levels, mode) for curve in curves], 3)


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


CURVE = st.integers(0, 3).flatmap(
    lambda length: st.lists(st.floats(-1, 1), min_size=length, max_size=length).map(
        lambda values: dict(zip(LEVELS, values, strict=False))
    )
)


@given(st.lists(CURVE, max_size=9))
def test_ranks_are_a_permutation_and_mirrored_in_max_mode(curves):
    found = ranks(*curves)
    assert sorted(found) == list(range(len(curves)))
    assert found == ranks(*({step: -value for step, value in curve.items()} for curve in curves), mode="max")


# What samplers are shown


class Spy(BaseSampler):
    """Keeps the last study that it was shown."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        self.trials, self.search_space = study.get_trials(), search_space
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return optuna.samplers.RandomSampler(seed=trial.number).sample_independent(
            study, trial, param_name, param_distribution
        )


@pytest.fixture
def spy(monkeypatch):
    """Takes the place of every sampler."""
    watching = Spy()
    for name in SAMPLERS:
        monkeypatch.setitem(SAMPLERS, name, lambda study, seed: watching)
    return watching


@pytest.mark.parametrize("mode", ["min", "max"])
def test_every_ended_trial_is_shown_as_complete_with_its_fair_rank(tmp_path, spy, mode):
    space = small(sampler="tpe", objective={"metric": METRIC if mode == "min" else "val/prior_psnr", "mode": mode})
    ledger = open_at(tmp_path / "study.db", space)
    play(ledger, space, 6, until=lambda number: STEPS if number == 0 else RUNGS[0])
    number, _ = ledger.ask()
    ledger.tell(number, TrialState.FAIL, None)
    running, params = ledger.ask()
    ledger.ask()
    curves = [trial.intermediate_values for trial in ledger.trials[:6]]
    expected = ranks(*curves, levels=(*RUNGS, STEPS), mode=mode)
    ended, others = spy.trials[:6], spy.trials[6:-1]  # the last is the one to be suggested
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 6
    assert [trial.value for trial in ended] == [share(rank, of=6) for rank in expected]
    assert [(trial.number, trial.state.name) for trial in others] == [(6, "FAIL"), (7, "RUNNING")]
    assert (running, others[1].params) == (7, params)  # so that it is not drawn again
    assert ledger.trial(1).state is TrialState.PRUNED  # the study itself is as it was


def stopped(space, count):
    """Stopped trials, the older the better."""
    rates = [10 ** (-5 + 2 * index / count) for index in range(count)]
    study = optuna.create_study()
    study.add_trials(
        create_trial(
            state=TrialState.PRUNED,
            params=space.recommended() | {"learning_rate": rate},
            distributions=distributions(space),
            intermediate_values={RUNGS[0]: rate},
        )
        for rate in rates
    )
    return study.trials


def places(spy, trials):
    """Which of the trials the sampler was shown as complete."""
    rates = [trial.params["learning_rate"] for trial in trials]
    return [rates.index(one.params["learning_rate"]) for one in spy.trials if one.state is TrialState.COMPLETE]


@pytest.mark.parametrize("sampler", ["auto", *SAMPLERS])
def test_of_many_trials_the_best_and_an_even_choice_are_shown(spy, sampler):
    """But to samplers that keep their state with the trials, all: without it they would begin again."""
    space, count = small(sampler=sampler), 4 * SHOWN
    trials = stopped(space, count)
    Suggestions(space, space.budget[PRESET])(trials)
    shown = places(spy, trials)
    if sampler not in MODELS:
        assert shown == list(range(count))
        return
    assert SHOWN / 2 < len(shown) <= SHOWN
    assert shown[:GOOD] == list(range(GOOD))
    assert {after - before for before, after in itertools.pairwise(shown[GOOD:])} == {5}  # of 390


def test_as_many_trials_as_may_be_shown_are_all_shown(spy):
    space = small(sampler="tpe")
    trials = stopped(space, SHOWN)
    Suggestions(space, space.budget[PRESET])(trials)
    assert places(spy, trials) == list(range(SHOWN))


@pytest.mark.parametrize("several", [{}, PARETO], ids=["one objective", "two objectives"])
def test_trials_outside_changed_ranges_are_not_shown(tmp_path, spy, several):
    before = small(sampler="tpe", **several)
    ledger = open_at(tmp_path / "study.db", before)
    play(ledger, before, 14)
    for _ in range(6):
        ledger.ask()  # running when the search is interrupted
    ledger.close()
    now = edited(before, **CHANGES)
    again = open_at(tmp_path / "study.db", now)
    for _ in range(7):
        again.ask()
    within = [trial for trial in again.trials[:20] if inside(trial.params)]
    assert {trial.number < 14 for trial in within} == {True, False}
    assert len(within) < 20
    assert [trial.params for trial in spy.trials[:-1]] == [trial.params for trial in within]
    assert all(trial.distributions == distributions(now) for trial in spy.trials[:-1])
    assert distributions(before) != distributions(now)


def test_several_objectives_are_shown_with_their_values(tmp_path, spy):
    space = small(sampler="tpe", **PARETO)
    ledger = open_at(tmp_path / "study.db", space)
    play(ledger, space, 5)
    ledger.ask()
    assert [trial.values for trial in spy.trials[:5]] == [trial.values for trial in ledger.trials[:5]]
    assert all(len(trial.values) == 2 for trial in spy.trials[:5])


def earlier_trials(space, count=30):
    """Those of another search; the nearer their learning rate to 1e-5 the better."""
    trials = []
    for index in range(count):
        drawn = space.recommended() | {"learning_rate": 10 ** (-5 + 2 * index / count)}
        trials.append(create_trial(params=drawn, distributions=distributions(space), value=share(index, count)))
        trials[-1].number = index - count
    return trials


def test_another_search_s_trials_are_older_and_have_the_shares_that_they_come_with(tmp_path, spy):
    space = small(sampler="tpe")
    ledger = open_at(tmp_path / "study.db", space, earlier_trials(space, 4))
    play(ledger, space, 2, until=lambda number: RUNGS[0])
    ledger.ask()
    shown = [trial.value for trial in spy.trials if trial.state is TrialState.COMPLETE]
    assert shown[:4] == [share(rank, of=4) for rank in range(4)]
    assert sorted(shown[4:]) == [0.25, 0.75]
    assert [trial.number for trial in ledger.trials] == [0, 1, 2]  # they take no place


@pytest.mark.parametrize("sampler", MODELS)
def test_it_learns_from_another_search(tmp_path, sampler):
    space = small("learning_rate", sampler=sampler)

    def decades(earlier):
        """Mean logarithm of the first rates that are suggested, none of which is ever judged."""
        ledger = open_at(tmp_path / f"{len(earlier)}.db", space, earlier)
        return mean(math.log10(float(ledger.ask()[1]["learning_rate"])) for _ in range(9))

    assert decades(earlier_trials(space)) < -4.5 < decades(())


def test_a_bad_trial_at_full_budget_does_not_draw_the_search():
    """Trials near 1e-5 are good and stopped; one at 1e-3 is bad and complete. Fairly told, the sampler goes to 1e-5."""
    space = small("learning_rate", sampler="tpe")
    bad = create_trial(
        params={"learning_rate": 1e-3},
        distributions=distributions(space),
        value=50.0,
        intermediate_values=dict.fromkeys((*RUNGS, STEPS), 50.0),
    )
    trials = [*stopped(space, 20), bad]
    bad.number = 20

    def decades(suggested):
        return mean(math.log10(params["learning_rate"]) for params in suggested)

    fair, plain = [], []
    for seed in range(20):
        seeded = space.model_copy(update={"seed": seed})
        fair.append(Suggestions(seeded, space.budget[PRESET])(trials).params)
        optunas = optuna.create_study(sampler=TPESampler(seed=seed))
        optunas.add_trials(trials)
        plain.append(suggest(optunas.ask(), space))
    assert decades(fair) < min(-4.4, decades(plain))
