"""What hyperparameters matter, on searches whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from results.records import TrialRecord, read_trials
from results.second_opinions import FANOVA, PED_ANOVA, second_opinions
from results.sensitivity import Sensitivity, sensitivity, sentences
from results.surrogate import Surrogate
from spaces.loading import load
from spaces.study import Budget, Study
from tests.results.conftest import BUDGET, RunMaker

SPACE = load("cvae_psf", BUDGET)


@pytest.fixture
def trials(make_run: RunMaker):
    return read_trials(make_run(24, fail=[5]))


def found_by(trials: list[TrialRecord], space: Study = SPACE) -> Sensitivity:
    return sensitivity(trials, space, space.presets()["quick"])


def test_the_one_that_matters_is_found_with_its_factor(trials):
    """The objective is 0.02 (1 + |log10 rate / 1e-3|)^2 + 20 / step; trials were stopped at three different steps."""
    found = found_by(trials)
    steps = found.step
    assert found.ratio
    assert not found.reason
    first, *others = found.effects
    assert first.name == "learning_rate"
    assert first.label == "High"
    low, high = SPACE.search["learning_rate"].low, SPACE.search["learning_rate"].high
    assert low is not None
    assert high is not None
    worst = 0.02 * (1 + math.log10(1e-3 / low)) ** 2 + 20 / steps
    best = 0.02 + 20 / steps
    assert first.effect.low <= worst / best <= first.effect.high
    assert all(one.effect.mean < first.effect.mean for one in others)
    assert all(one.level != "High" for one in others)
    errors = [point.mean for point in first.response]
    assert errors == sorted(errors, reverse=True)  # it is best at the upper end
    true = [0.02 * (1 + abs(math.log10(float(rate) / 1e-3))) ** 2 + 20 / steps for rate in first.values]
    assert [point.mean for point in first.local] == pytest.approx(true, rel=0.1)
    assert first.values[0] == pytest.approx(low)
    assert first.values[-1] == pytest.approx(high)


def test_the_direction_of_the_metric_counts_and_differences_are_in_its_unit(trials):
    """PSNR is -20 log10 of the error."""
    space = load("cvae_psf", [*BUDGET, "objective={metric: val/prior_psnr, mode: max}"])
    decibels = [
        replace(trial, history=tuple((step, -20 * math.log10(value)) for step, value in trial.history))
        for trial in trials
    ]
    found, errors = found_by(decibels, space), found_by(trials)
    assert not found.ratio
    assert [one.name for one in found.effects[:1]] == ["learning_rate"]
    assert found.effects[0].level is None
    assert found.effects[0].effect.mean == pytest.approx(20 * math.log10(errors.effects[0].effect.mean), rel=1e-3)
    assert found.effects[0].response[0].mean < found.effects[0].response[-1].mean


def test_of_noise_nothing_is_called_high(trials):
    rng = np.random.default_rng(3)
    noise = [
        replace(trial, history=tuple((step, float(rng.lognormal(0, 0.3))) for step, _ in trial.history))
        for trial in trials
    ]
    assert not [one.name for one in found_by(noise).effects if one.level == "High"]


def test_trials_from_outside_edited_ranges_are_left_out(trials):
    edited = load("cvae_psf", [*BUDGET, "search.learning_rate.low=2e-5"])
    inside = [t for t in trials if t.params["learning_rate"] >= 2e-5]
    assert 16 <= len(inside) < len(trials)
    assert found_by(trials, edited) == found_by(inside, edited)


def test_too_few_trials_claim_nothing(trials):
    found = found_by(trials[:7])
    assert not found.effects
    assert found.trials == 7
    assert found.reason


def test_a_conditional_parameter_is_asked_for_where_it_exists():
    """Components are of `basis` alone, where their number halves the error; the others err as those in the middle."""
    space = load("vae_psf")
    budget = Budget(trials=1, steps=100, grace_steps=100, evaluate_every=100)
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(40):
        values: dict[str, Any] = {}
        for name, parameter in space.search.items():
            if space.exists(parameter, values):
                choices = parameter.values(9, space.is_integer(name))
                values[name] = choices[rng.integers(len(choices))]
        parameter = space.search["components"]
        known = parameter.values(9, True)
        share = known.index(values["components"]) / (len(known) - 1) if "components" in values else 0.5
        drawn.append(record(number, values, 100, 0.2 * 2**-share))
    found = sensitivity(drawn, space, budget)
    effects = {one.name: one for one in found.effects}
    components = effects.pop("components")
    assert components.effect.low > 1.2  # a third of the trials have it
    assert components.response[0].mean > components.response[-1].mean
    assert all(one.effect.mean < components.effect.mean for name, one in effects.items() if name != "network")


def record(number: int, params: dict[str, Any], step: int, value: float) -> TrialRecord:
    return TrialRecord(
        number, "COMPLETE", params, ((step, value),), None, step, {}, 0.0, None, None, (), 0.0, False, None, None
    )


def test_averages_of_a_process_are_those_of_its_mean():
    rng = np.random.default_rng(0)
    inputs = rng.random((30, 3))
    categorical = np.array([False, False, True])
    inputs[:, 2] = rng.integers(0, 2, 30)
    values = np.sin(3 * inputs[:, 0]) + inputs[:, 2]
    process = Surrogate.of(inputs, values, np.arange(30), categorical)
    curves = rng.random((4, 5, 3))
    curves[..., 2] = 1
    mean, covariance = process.averages(curves)
    assert mean == pytest.approx(process.mean(curves.reshape(20, 3)).reshape(4, 5).mean(axis=1))
    assert mean == pytest.approx(np.sin(3 * curves[..., 0]).mean(axis=1) + 1, abs=0.05)
    # Where it has been observed it is known, and the second input, which does nothing, has the longest scale.
    _, there = process.averages(inputs[:4, None])
    assert np.diag(there).max() < 0.01 * values.var()
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert process.lengths[0] < process.lengths[1]


def test_reports_of_one_trial_do_not_pass_for_several():
    """Six trials, each of its own level and reported ten times, say less of a mean than sixty trials do."""
    rng = np.random.default_rng(0)
    levels = rng.standard_normal(6)
    inputs = np.repeat(rng.random((6, 1)), 10, axis=0)
    values = np.repeat(levels, 10) + 0.01 * rng.standard_normal(60)
    anywhere = rng.random((1, 50, 1))
    as_six = Surrogate.of(inputs, values, np.repeat(np.arange(6), 10), np.array([False]))
    as_sixty = Surrogate.of(rng.random((60, 1)), values, np.arange(60), np.array([False]))
    assert as_six.averages(anywhere)[1].item() > 2 * as_sixty.averages(anywhere)[1].item()


def test_values_that_are_all_equal_are_refused():
    with pytest.raises(ValueError, match="equal"):
        Surrogate.of(np.zeros((5, 1)), np.ones(5), np.arange(5), np.array([False]))


@pytest.mark.parametrize(("count", "methods"), [(12, set()), (24, {FANOVA}), (104, {FANOVA, PED_ANOVA})])
def test_second_opinions_name_the_one_that_matters_once_there_are_enough_trials(trials, count, methods):
    known = [one for one in trials if one.at(200) is not None]
    random = np.random.default_rng(0)
    many = []
    for number in range(count):
        rate = 10 ** random.uniform(-5, -3)
        like = known[number % len(known)]
        many.append(replace(like, number=number, params=like.params | {"learning_rate": rate}, history=((200, rate),)))
    found = second_opinions(many, SPACE, 200)
    assert set(found) == methods
    for shares in found.values():
        assert max(shares, key=lambda name: shares[name]) == "learning_rate"
        assert sum(shares.values()) == pytest.approx(1)


def test_second_opinions_say_nothing_of_their_studies(trials, caplog):
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        assert second_opinions(trials, SPACE, 200)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(level)
    assert not caplog.records


def test_second_opinions_leave_out_trials_from_outside_edited_ranges(trials):
    edited = load("cvae_psf", [*BUDGET, "search.learning_rate.low=2e-5"])
    at_first_rung = [one for one in trials if one.at(200) is not None]
    inside = [one for one in at_first_rung if one.params["learning_rate"] >= 2e-5]
    assert 16 <= len(inside) < len(at_first_rung)
    assert second_opinions(at_first_rung, edited, 200) == second_opinions(inside, edited, 200)


def test_a_sentence_for_each_effect_or_the_reason_why_there_is_none(trials):
    found = found_by(trials)
    said = sentences(found, "rel. L2")
    for one in found.effects:
        (own,) = [line for line in said if f" {one.name} " in line]
        assert (one.level or "not told") in own
    few = found_by(trials[:5])
    assert few.reason
    assert few.reason in sentences(few, "rel. L2")[0]
