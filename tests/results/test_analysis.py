"""Ranking, time, importance, edges and gain, on searches whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from results import tables
from results.analysis import analyze, edges, ranked, spent
from results.importance import importance
from results.records import TrialRecord, read_trials
from results.tables import duration, number
from spaces.loading import load
from spaces.metrics import Mode
from tests.results.conftest import RunMaker, summary_of


@pytest.fixture
def trials(make_run: RunMaker):
    return read_trials(make_run(24, fail=5))


def reached(trial: TrialRecord, mode: Mode) -> float:
    best = trial.best(mode)
    assert best is not None
    return best[1]


def test_ranking_is_by_best_report_whatever_the_state(trials):
    order = ranked(trials, "min")
    values = [reached(trial, "min") for trial in order]
    assert values == sorted(values)
    assert {trial.number for trial in trials} - {trial.number for trial in order} == {5}  # the failed one
    stopped = replace(trials[1], state="PRUNED", history=((200, 1e-6), (400, 0.5)))
    assert ranked([*trials, stopped], "min")[0] is stopped
    assert reached(ranked(trials, "max")[0], "max") == max(reached(trial, "max") for trial in order)


def test_time_is_summed_by_state(trials):
    cost = spent(trials)
    assert sum(one.trials for one in cost.values()) == 24
    assert cost["FAIL"].trials == 1
    assert sum(one.lane_seconds for one in cost.values()) == pytest.approx(
        sum(one.steps for one in cost.values()) / 100
    )
    assert "WAITING" not in cost


def test_importance_finds_the_one_parameter_that_matters(trials):
    """The objective depends on learning_rate alone; trials were stopped at three different steps."""
    found = importance(trials, load("cvae_psf"), 200)
    assert (found.step, found.trials, found.reason) == (200, 24, None)
    assert found.parameters[0].name == "learning_rate"
    assert found.parameters[0].share > 0.4
    assert found.parameters[0].label == "High"
    assert [one.name for one in found.parameters if one.p <= 0.01] == ["learning_rate"]
    assert sum(one.share for one in found.parameters) == pytest.approx(1)


def test_importance_of_noise_is_not_clear(trials):
    rng = np.random.default_rng(3)
    noise = [replace(trial, history=((200, float(rng.random())),)) for trial in trials]
    clear = [one.name for one in importance(noise, load("cvae_psf"), 200).parameters if one.clear]
    assert len(clear) <= 2  # of 11, at 5 % each


def test_importance_depends_on_ranks_only_and_on_the_direction(trials):
    space = load("cvae_psf")
    found = importance(trials, space, 200)
    cubed = [replace(t, history=tuple((s, v**3) for s, v in t.history)) for t in trials]
    assert importance(cubed, space, 200) == found
    negated = [replace(t, history=tuple((s, -v) for s, v in t.history)) for t in trials]
    psnr = load("cvae_psf", ["objective={metric: val/prior_psnr, mode: max}"])
    assert importance(negated, psnr, 200) == found


def test_importance_is_refused_for_too_few_trials(trials):
    found = importance(trials[:7], load("cvae_psf"), 200)
    assert not found.parameters
    assert found.reason == "too few trials: 7 reported at step 200, at least 8 are needed"


def test_a_best_value_at_the_end_of_its_range_is_said():
    space = load("cvae_psf")
    found = edges(space, {**space.recommended(), "learning_rate": 9.5e-4, "latent_dim": 64, "fourier_bands": 5})
    assert [(edge.name, edge.end, edge.bound) for edge in found if edge.name in ("learning_rate", "latent_dim")] == [
        ("latent_dim", "lower", 64),
        ("learning_rate", "upper", 1e-3),
    ]
    assert "fourier_bands" not in [edge.name for edge in found]


def test_gain_is_on_validation_until_the_summary_has_the_test(make_run: RunMaker):
    run = make_run(12)
    found = analyze(run)
    assert found.document is not None
    assert found.gain is not None
    assert found.gain.metric == "val/prior_rel_l2"
    assert found.gain.factor == pytest.approx(reached(found.document, "min") / reached(found.ranking[0], "min"))
    run.write_summary(summary_of(run.name))
    gain = analyze(run).gain
    assert gain is not None
    assert (gain.metric, gain.document, gain.best) == ("test/prior_rel_l2", 0.4, 0.02)
    assert gain.factor == pytest.approx(20)
    assert "Interpolation of the training grid is still better: cubic RBF 0.015." in tables.notes(analyze(run)).plain


@pytest.mark.parametrize("trials", [0, 3, 24])
@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal_and_machines_get_json(make_run: RunMaker, trials, width):
    run = make_run(trials, fail=2)
    if trials == 24:
        run.write_summary(summary_of(run.name))
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(tables.analysis(run))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert ("no trial has reported yet" in text) == (trials == 0)
    assert ("too few trials" in text) == (trials < 8)
    assert ("cubic RBF" in text) == (trials == 24)
    machine = json.loads(json.dumps(tables.analysis_as_dict(run), allow_nan=False))
    assert len(machine["trials"]) == trials
    assert machine["finished"] == (trials == 24)
    assert sum(cost["trials"] for cost in machine["states"].values()) == trials


def test_numbers_and_times_read_well():
    assert [number(value) for value in (1e-4, 1e-3, 0.014823, 28.0, 128, 1e5, 3.456e-5, "cosine", True)] == [
        "1e-4", "0.001", "0.01482", "28", "128", "1e5", "3.46e-5", "cosine", "True",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (4.21, 187, 7500)] == ["4.2 s", "3 min 07 s", "2 h 05 min"]
