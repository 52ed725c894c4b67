"""Fair ranks of trials of different lengths, what samplers are shown, and that each is seeded and can be resumed."""

import itertools
import math
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import TrialState, create_trial

from results.distributions import distributions
from search.sampler import (
    GOOD,
    GP_STARTUP,
    GP_TRIALS,
    MODELS,
    SAMPLERS,
    SHOWN,
    Experience,
    FairSampler,
    at_levels,
    fair_ranks,
    sampler_of,
)
from search.searcher import ask
from spaces.study import Study
from tests.search.small import METRIC, PRESET, RUNGS, STEPS, edited, open_at, small, value

LEVELS = (10, 30, 90)
PARETO = {"scheduler": "none", "further_objectives": [{"metric": "val/prior_psnr", "mode": "max"}]}
# Of each sampler as many trials as take it beyond its random beginning, and the reports after which the search is killed.
COURSES = {
    "auto": (14, (5, 22)),
    "tpe": (24, (5, 22, 23, 40)),
    "random": (12, (5, 17)),
    "gp": (14, (5, 22)),
    "cmaes": (45, (5, 22, 60, 61, 80)),
    "nsga2": (115, (5, 100, 130, 170, 200)),
    "grid": (28, (5, 22, 40)),
}


def ranks(*curves, levels=LEVELS, mode="min"):
    return fair_ranks([at_levels(curve, levels, mode) for curve in curves], 3).tolist()


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


def draw(ledger, space):
    return ledger.ask(lambda trial: ask(trial, space))


def play(ledger, space, trials, until=lambda number: STEPS):
    """So many trials one after another; those that go `until` the last step are complete."""
    for _ in range(trials):
        number, params = draw(ledger, space)
        last = until(number)
        for step in (*RUNGS, STEPS):
            if step <= last:
                ledger.report(number, step, value(params, step))
        if last == STEPS:
            values = [value(params, STEPS), 1 / value(params, STEPS)]
            ledger.tell(number, TrialState.COMPLETE, values[: len(space.objectives)])
        else:
            ledger.tell(number, TrialState.PRUNED, None)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_every_ended_trial_is_shown_as_complete_with_its_fair_rank(tmp_path, spy, mode):
    space = small(sampler="tpe", objective={"metric": METRIC if mode == "min" else "val/prior_psnr", "mode": mode})
    ledger = open_at(tmp_path / "study.db", space)
    play(ledger, space, 6, until=lambda number: STEPS if number == 0 else RUNGS[0])
    number, _ = draw(ledger, space)
    ledger.tell(number, TrialState.FAIL, None)
    running, params = draw(ledger, space)
    draw(ledger, space)
    curves = [trial.intermediate_values for trial in ledger.trials[:6]]
    expected = ranks(*curves, levels=(*RUNGS, STEPS), mode=mode)
    sign = 1 if mode == "min" else -1
    ended, others = spy.trials[:6], spy.trials[6:]
    assert [(trial.number, trial.state) for trial in ended] == [(n, TrialState.COMPLETE) for n in range(6)]
    assert [trial.value for trial in ended] == [pytest.approx(sign * (rank + 0.5) / 6) for rank in expected]
    assert [(trial.number, trial.state.name) for trial in others] == [(6, "FAIL"), (7, "RUNNING"), (8, "RUNNING")]
    assert (running, others[1].params) == (7, params)  # so that it is not drawn again
    assert ledger.trial(1).state is TrialState.PRUNED  # the study itself is as it was


def recorded(space, count):
    """An in-memory study of stopped trials, the older the better."""
    found = optuna.create_study()
    rates = [10 ** (-5 + 2 * index / count) for index in range(count)]
    found.add_trials(
        create_trial(
            state=TrialState.PRUNED,
            params=space.recommended() | {"learning_rate": rate},
            distributions=distributions(space),
            intermediate_values={RUNGS[0]: rate},
        )
        for rate in rates
    )
    return found


@pytest.mark.parametrize("sampler", ["auto", *SAMPLERS])
def test_of_many_trials_the_best_and_an_even_choice_are_shown(spy, sampler):
    """But to samplers that keep their state with the trials, all: without it they would begin again."""
    space, count = small(sampler=sampler), 4 * SHOWN
    study = recorded(space, count)
    study.sampler = FairSampler(space, space.budget[PRESET])
    ask(study.ask(), space)
    shown = [trial.number for trial in spy.trials if trial.state is TrialState.COMPLETE]
    if sampler not in MODELS:
        assert shown == list(range(count))
        return
    assert len(shown) == SHOWN
    assert shown == sorted(shown)
    assert shown[:GOOD] == list(range(GOOD))
    gaps = [after - before for before, after in itertools.pairwise(shown[GOOD:])]
    assert set(gaps) == {(count - GOOD) // (SHOWN - GOOD), (count - GOOD) // (SHOWN - GOOD) + 1}


def test_as_many_trials_as_may_be_shown_are_all_shown(spy):
    space = small(sampler="tpe")
    study = recorded(space, SHOWN)
    study.sampler = FairSampler(space, space.budget[PRESET])
    ask(study.ask(), space)
    assert [trial.number for trial in spy.trials] == list(range(SHOWN + 1))


CHANGES = {"learning_rate": {"high": 2e-4}, "lr_schedule": {"choices": ["constant", "cosine"]}}


def inside(params):
    return params["learning_rate"] <= 2e-4 and params["lr_schedule"] != "one_cycle"


@pytest.mark.parametrize("several", [{}, PARETO], ids=["one objective", "two objectives"])
def test_trials_outside_changed_ranges_are_not_shown(tmp_path, spy, several):
    before = small(sampler="tpe", **several)
    ledger = open_at(tmp_path / "study.db", before)
    play(ledger, before, 14)
    for _ in range(6):
        draw(ledger, before)  # running when the search is interrupted
    ledger.close()
    now = edited(before, **CHANGES)
    again = open_at(tmp_path / "study.db", now)
    for _ in range(7):
        draw(again, now)
    drawn = {trial.number: trial.params for trial in again.trials if trial.number < 20}
    within = [number for number, params in drawn.items() if inside(params)]
    assert {number < 14 for number in within} == {True, False}
    assert len(within) < 20
    assert [trial.number for trial in spy.trials] == [*within, 20]
    assert all(trial.distributions == distributions(now) for trial in spy.trials[:-1])
    assert all(trial.params == drawn[trial.number] for trial in spy.trials[:-1])
    assert distributions(before) != distributions(now)


def test_several_objectives_are_shown_with_their_values(tmp_path, spy):
    space = small(sampler="tpe", **PARETO)
    ledger = open_at(tmp_path / "study.db", space)
    play(ledger, space, 5)
    draw(ledger, space)
    assert [trial.values for trial in spy.trials[:5]] == [trial.values for trial in ledger.trials[:5]]
    assert all(len(trial.values) == 2 for trial in spy.trials[:5])


def experience(space, count=30, **params):
    """Trials of another search; the nearer their learning rate to 1e-5 the better."""
    ranges = distributions(space)
    trials = []
    for index in range(count):
        drawn = space.recommended() | {"learning_rate": 10 ** (-5 + 2 * index / count)} | params
        trials.append(create_trial(params=drawn, distributions=ranges, value=0.0))
        trials[-1].number = index - count
    return Experience(trials, list(range(count)), count)


def test_another_search_s_trials_are_older_and_rank_by_their_share(tmp_path, spy):
    space = small(sampler="tpe")
    ledger = open_at(tmp_path / "study.db", space, experience(space, 4))
    play(ledger, space, 2, until=lambda number: RUNGS[0])
    draw(ledger, space)
    shown = {trial.number: trial.value for trial in spy.trials if trial.state is TrialState.COMPLETE}
    assert list(shown) == [-4, -3, -2, -1, 0, 1]
    assert [shown[number] for number in range(-4, 0)] == [pytest.approx((rank + 0.5) / 4) for rank in range(4)]
    assert sorted(shown[number] for number in (0, 1)) == [0.25, 0.75]
    assert [trial.number for trial in ledger.trials] == [0, 1, 2]  # they take no place


def test_of_another_search_s_trials_those_left_out_keep_their_places(tmp_path, spy):
    space = small(sampler="tpe")
    all_of_it = experience(space, 8)
    held = Experience(all_of_it.trials[:3] + all_of_it.trials[7:], [0, 1, 2, 7], ranked=8)
    ledger = open_at(tmp_path / "study.db", space, held)
    draw(ledger, space)  # that is given
    draw(ledger, space)
    assert [trial.value for trial in spy.trials[:4]] == [(rank + 0.5) / 8 for rank in (0, 1, 2, 7)]


@pytest.mark.parametrize("sampler", MODELS)
def test_it_learns_from_another_search(tmp_path, sampler):
    space = small("learning_rate", sampler=sampler)

    def decades(earlier):
        """Mean logarithm of the first rates that are suggested, none of which is ever judged."""
        ledger = open_at(tmp_path / f"{earlier is None}.db", space, earlier)
        return mean(math.log10(draw(ledger, space)[1]["learning_rate"]) for _ in range(9))

    assert decades(experience(space)) < -4.5 < decades(None)


def test_a_bad_trial_at_full_budget_does_not_draw_the_search():
    """Trials near 1e-5 are good and stopped; one at 1e-3 is bad and complete. Fairly told, the sampler goes to 1e-5."""
    space = small("learning_rate", sampler="tpe")

    def mean_of_suggestions(sampler):
        study = recorded(space, 20)
        study.sampler = sampler
        study.add_trial(
            create_trial(
                params={"learning_rate": 1e-3},
                distributions=distributions(space),
                value=50.0,
                intermediate_values=dict.fromkeys((*RUNGS, STEPS), 50.0),
            )
        )
        drawn = []
        for _ in range(20):
            trial = study.ask()
            drawn.append(math.log10(float(ask(trial, space)["learning_rate"])))
            study.tell(trial, state=TrialState.FAIL)
        return mean(drawn)

    fair, plain = mean_of_suggestions(FairSampler(space, space.budget[PRESET])), mean_of_suggestions(TPESampler(seed=0))
    assert fair < min(-4.4, plain)


# The samplers themselves


def test_gaussian_processes_suggest_what_optuna_s_would():
    space = small(sampler="gp")

    def suggested(sampler):
        study = optuna.create_study(sampler=sampler)
        study.add_trials(
            create_trial(params=params, distributions=distributions(space), value=value(params, STEPS))
            for params in (space.recommended() | {"learning_rate": rate} for rate in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3))
        )
        return ask(study.ask(), space)

    assert "_sample_relative_impl" in vars(GPSampler)  # what ours calls
    optunas = GPSampler(seed=1, n_startup_trials=GP_STARTUP)
    assert suggested(SAMPLERS["gp"](space, 1)) == suggested(optunas)


@pytest.mark.parametrize(
    ("sampler", "number", "loads"),
    [("gp", 0, True), ("auto", 9, True), ("auto", GP_TRIALS + 1, False), ("tpe", 0, False)],
)
def test_a_rehearsal_loads_what_the_sampler_needs(sampler, number, loads):
    program = f"""
import sys
from search.sampler import rehearse
from spaces.loading import load
rehearse(load("cvae_psf", ["sampler={sampler}"]), {number})
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.stdout.strip() == str(loads), done.stderr


def search(path, space, trials, killed_after=()):
    """Parameters of so many trials, on two lanes that report in turn; after some reports killed, and resumed from its file."""
    ledger, reports = open_at(path, space), 0
    drawn: dict[int, dict[str, Any]] = {}
    left: dict[int, list[int]] = {}
    while True:
        while len(left) < 2 and len(drawn) < trials:
            number, params = draw(ledger, space)
            drawn[number], left[number] = params, [*RUNGS, STEPS]
        if not left:
            assert list(drawn) == list(range(trials))
            return list(drawn.values())
        number = sorted(left)[reports % len(left)]
        params, step = drawn[number], left[number].pop(0)
        ledger.report(number, step, value(params, step))
        if not left[number]:
            last = value(params, step)
            ledger.tell(number, TrialState.COMPLETE, [last, 1 / last][: len(space.objectives)])
        elif not space.further_objectives and value(params, step) > 2.6:
            ledger.tell(number, TrialState.PRUNED, None)
        if ledger.trial(number).state.is_finished():
            del left[number]
        reports += 1
        if reports in killed_after:
            ledger = open_at(path, space)
            for number in sorted(left):
                assert draw(ledger, space) == (number, drawn[number])


def test_every_sampler_a_space_may_name_is_tested():
    named = set(get_args(Study.model_fields["sampler"].annotation))
    assert named == {"auto", *SAMPLERS} == COURSES.keys()


@pytest.mark.parametrize("sampler", COURSES)
def test_the_seed_decides_and_a_resumed_search_suggests_what_an_undisturbed_one_does(tmp_path, sampler):
    trials, killed_after = COURSES[sampler]
    space = small(sampler=sampler, seed=3)
    undisturbed = search(tmp_path / "one.db", space, trials)
    assert search(tmp_path / "two.db", space, trials, killed_after) == undisturbed
    few = min(trials, 8)
    assert search(tmp_path / "three.db", small(sampler=sampler, seed=4), few)[1:] != undisturbed[1:few]


@pytest.mark.parametrize("sampler", ["auto", "nsga2"])
def test_so_does_a_search_for_several_objectives(tmp_path, sampler):
    space = small(sampler=sampler, **PARETO)
    trials = 14 if sampler == "auto" else 60
    undisturbed = search(tmp_path / "one.db", space, trials)
    assert search(tmp_path / "two.db", space, trials, (20, 35, 156)) == undisturbed


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "nsga2"])
def test_beyond_its_random_beginning_a_sampler_learns(tmp_path, sampler):
    """The last ten are better than the first ten, of which nothing could be known."""
    trials, _ = COURSES[sampler]
    values = [value(params, STEPS) for params in search(tmp_path / "study.db", small(sampler=sampler), trials + 6)]
    assert mean(values[-10:]) < mean(values[1:11])


def test_auto_is_gaussian_processes_and_then_tpe():
    space = small(sampler="auto")
    numbers = (1, GP_TRIALS, GP_TRIALS + 1, 10 * GP_TRIALS)
    assert [sampler_of(space, number) for number in numbers] == ["gp", "gp", "tpe", "tpe"]
    assert sampler_of(small(sampler="auto", **PARETO), 1) == "tpe"
    assert sampler_of(small(sampler="gp"), 10 * GP_TRIALS) == "gp"


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_parameters_are_sampled_jointly_even_after_ranges_have_changed(tmp_path, sampler):
    before = small(sampler=sampler)
    ledger = open_at(tmp_path / "study.db", before)
    play(ledger, before, 20)
    jointly: list[dict[str, Any]] = []

    def look(space):
        def suggest(trial):
            jointly.append(trial.relative_params)
            return ask(trial, space)

        return suggest

    ledger.ask(look(before))
    ledger.close()
    now = edited(before, learning_rate={"high": 1e-2})
    again = open_at(tmp_path / "study.db", now)
    for _ in range(2):  # the one that was interrupted has its parameters, the next one is drawn
        _, params = again.ask(look(now))
    assert [set(one) for one in jointly] == [set(before.search), set(), set(now.search)]
    assert params == jointly[2]


@pytest.mark.parametrize("several", [{}, PARETO], ids=["one objective", "two objectives"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_on_with_changed_ranges(tmp_path, sampler, several):
    if several and sampler == "cmaes":
        return  # one objective only; the study says so
    before = small(sampler=sampler, **several)
    ledger = open_at(tmp_path / "study.db", before)
    play(ledger, before, 16)
    ledger.close()
    now = edited(before, **CHANGES)
    again = open_at(tmp_path / "study.db", now)
    play(again, now, 4)
    assert all(inside(trial.params) for trial in again.trials[16:])


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_constraints_are_learnt_from(tmp_path, sampler):
    """The best rates violate one. Samplers that did not know would go where the objective is best, to 3e-4."""
    space = small("learning_rate", sampler=sampler, constraints=[{"metric": "val/kl", "high": 0.0}])

    def decades(constrained):
        ledger = open_at(tmp_path / f"{constrained}.db", space)
        drawn = []
        for _ in range(18):
            number, params = draw(ledger, space)
            drawn.append(math.log10(params["learning_rate"]))
            ledger.report(number, RUNGS[0], abs(drawn[-1] + 3.5))
            ledger.tell(number, TrialState.PRUNED, None, {"val/kl": drawn[-1] + 4.2} if constrained else None)
        return mean(drawn[11:])

    assert decades(True) < decades(False) - 0.3


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_grid_has_every_point_once(tmp_path, lanes):
    """Also when some fail, some are stopped, and the documents' values end last."""
    space = small(sampler="grid")
    points = set(itertools.product(*space.grid().values()))
    ledger = open_at(tmp_path / "study.db", space)
    drawn, running = [], []
    for _ in range(1 + len(points)):
        number, params = draw(ledger, space)
        drawn.append(tuple(params.values()))
        running.append(number)
        if len(running) == lanes:
            # Trial 0 is held back while there are others.
            ended = running.pop(-1 if running[0] == 0 and lanes > 1 else 0)
            ledger.report(ended, RUNGS[0], 1.0)
            ledger.tell(ended, TrialState.FAIL if ended % 5 == 0 else TrialState.PRUNED, None)
    for number in running:
        ledger.tell(number, TrialState.FAIL, None)
    assert drawn[0] == tuple(space.recommended().values())
    assert len(points) == 27
    assert sorted(drawn[1:], key=str) == sorted(points, key=str)


def test_the_documents_values_may_end_when_one_point_of_the_grid_is_left(tmp_path):
    """Optuna's grid sampler would then look for the point of a trial that has none."""
    space = small("num_layers", sampler="grid")
    ledger = open_at(tmp_path / "study.db", space)
    for _ in range(3):
        draw(ledger, space)
    for number in (1, 2, 0):
        ledger.report(number, RUNGS[0], 1.0)
        ledger.tell(number, TrialState.PRUNED, None)
    number, _ = draw(ledger, space)
    assert {trial.params["num_layers"] for trial in ledger.trials[1:]} == {3, 4, 5}
    ledger.tell(number, TrialState.FAIL, None)
