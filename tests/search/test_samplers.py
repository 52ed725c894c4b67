"""The samplers themselves: each is seeded, can be resumed, learns, and goes on with changed ranges."""

import itertools
import math
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import pytest
from optuna.trial import TrialState

from search.sampler import GP_TRIALS, SAMPLERS, sampler_of
from spaces.study import Study
from tests.search.small import (
    CHANGES,
    PARETO,
    RUNGS,
    STEPS,
    edited,
    inside,
    open_at,
    play,
    small,
    value,
)

# Of each sampler as many trials as take it beyond its random beginning, and the reports after which the search is killed.
COURSES = {
    "auto": (14, (5, 22)),
    "tpe": (24, (5, 22, 23, 40)),
    "random": (12, (5, 17)),
    "sobol": (12, (5, 17)),
    "gp": (14, (5, 22)),
    "cmaes": (45, (5, 22, 60, 61, 80)),
    "nsga2": (115, (5, 100, 130, 170, 200)),
    "grid": (28, (5, 22, 40)),
}
SLOW = pytest.param("nsga2", marks=pytest.mark.slow)  # its generations are long


@pytest.mark.parametrize(
    ("sampler", "number", "loads"),
    [("gp", 0, True), ("auto", 9, True), ("auto", GP_TRIALS - 1, True), ("auto", GP_TRIALS, False), ("tpe", 0, False)],
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
            number, params = ledger.ask()
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
                assert ledger.ask() == (number, drawn[number])


def test_every_sampler_a_space_may_name_is_tested():
    named = set(get_args(Study.model_fields["sampler"].annotation))
    assert named == {"auto", *SAMPLERS} == COURSES.keys()


@pytest.mark.parametrize("sampler", [one for one in COURSES if one != "nsga2"] + [SLOW])
def test_the_seed_decides_and_a_resumed_search_suggests_what_an_undisturbed_one_does(tmp_path, sampler):
    trials, killed_after = COURSES[sampler]
    space = small(sampler=sampler, seed=3)
    undisturbed = search(tmp_path / "one.db", space, trials)
    assert search(tmp_path / "two.db", space, trials, killed_after) == undisturbed
    few = min(trials, 8)
    assert search(tmp_path / "three.db", small(sampler=sampler, seed=4), few)[1:] != undisturbed[1:few]


@pytest.mark.parametrize("sampler", ["auto", SLOW])
def test_so_does_a_search_for_several_objectives(tmp_path, sampler):
    space = small(sampler=sampler, **PARETO)
    trials = 14 if sampler == "auto" else 60
    undisturbed = search(tmp_path / "one.db", space, trials)
    assert search(tmp_path / "two.db", space, trials, (20, 35, 156)) == undisturbed


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", SLOW])
def test_beyond_its_random_beginning_a_sampler_learns(tmp_path, sampler):
    """The last ten are better than the first ten, of which nothing could be known."""
    trials, _ = COURSES[sampler]
    values = [value(params, STEPS) for params in search(tmp_path / "study.db", small(sampler=sampler), trials + 6)]
    assert mean(values[-10:]) < mean(values[1:11])


def test_auto_is_gaussian_processes_and_then_tpe():
    space = small(sampler="auto")
    numbers = (1, GP_TRIALS - 1, GP_TRIALS, 10 * GP_TRIALS)
    assert [sampler_of(space, number) for number in numbers] == ["gp", "gp", "tpe", "tpe"]
    assert sampler_of(small(sampler="auto", **PARETO), 1) == "tpe"
    assert sampler_of(small(sampler="gp"), 10 * GP_TRIALS) == "gp"


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_parameters_are_sampled_jointly_even_after_ranges_have_changed(tmp_path, sampler, monkeypatch):
    before = small(sampler=sampler)
    ledger = open_at(tmp_path / "study.db", before)
    play(ledger, before, 20)
    ledger.close()
    now = edited(before, learning_rate={"high": 1e-2})
    again = open_at(tmp_path / "study.db", now)
    optunas = SAMPLERS[sampler](now, 0)
    monkeypatch.setattr(optunas, "sample_independent", lambda *arguments: pytest.fail("sampled alone"))
    monkeypatch.setitem(SAMPLERS, sampler, lambda study, seed: optunas)
    assert again.ask()[1].keys() == now.search.keys()


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
            number, params = ledger.ask()
            drawn.append(math.log10(float(params["learning_rate"])))
            ledger.report(number, RUNGS[0], abs(drawn[-1] + 3.5))
            ledger.tell(number, TrialState.PRUNED, None, {"val/kl": drawn[-1] + 4.2} if constrained else None)
        return mean(drawn[11:])

    assert decades(True) < decades(False) - 0.3


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_grid_has_every_point_once(tmp_path, lanes):
    """Also when some fail, some are stopped, and the reference ends last."""
    space = small(sampler="grid")
    points = set(itertools.product(*space.grid().values()))
    ledger = open_at(tmp_path / "study.db", space)
    drawn, running = [], []
    for _ in range(1 + len(points)):
        number, params = ledger.ask()
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
        ledger.ask()
    for number in (1, 2, 0):
        ledger.report(number, RUNGS[0], 1.0)
        ledger.tell(number, TrialState.PRUNED, None)
    number, _ = ledger.ask()
    assert {trial.params["num_layers"] for trial in ledger.trials[1:]} == {3, 4, 5}
    ledger.tell(number, TrialState.FAIL, None)
