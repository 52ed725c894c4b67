"""Behaviour of the typed study: recommended values, conditional parameters, edges, budgets, data-set sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deeplens_workers.psf_data import PsfData
from spaces.loading import load
from spaces.study import Budget, Constraint, Objective, Parameter, Study
from trainables.psf.trial import CvaePsfTrial


def budget(**changes) -> Budget:
    return Budget(
        **{"trials": 1, "steps": 5400, "grace_steps": 200, "reduction_factor": 3, "evaluate_every": 1000} | changes
    )


def test_rungs_are_geometric_and_end_below_the_full_budget():
    assert budget().rungs() == [200, 600, 1800]
    assert budget(steps=1800).rungs() == [200, 600]
    assert budget(steps=200).rungs() == []
    assert budget(reduction_factor=2, steps=801).rungs() == [200, 400, 800]


def test_reports_hold_every_rung_and_the_last_step():
    assert budget().report_steps() == [200, 600, 1000, 1800, 2000, 3000, 4000, 5000, 5400]
    assert budget(evaluate_every=9999, steps=200).report_steps() == [200]


def test_documents_values_come_first():
    recommended = load("cvae_psf").recommended()
    document = {"kl_weight": 1e-4, "smooth_weight": 1e-3, "latent_dim": 128, "hidden_dim": 512, "learning_rate": 1e-4}
    assert {name: recommended[name] for name in document} == document


def test_given_trials_are_the_recommended_values_but_for_what_they_name():
    study = load("cvae_psf", ["points_to_evaluate=[{num_layers: 3}, {}]"])
    recommended = study.recommended()
    assert study.first_trials() == [recommended, {**recommended, "num_layers": 3}, recommended]


def test_a_given_value_must_be_one_the_search_could_suggest():
    stepped = Parameter(low=2, high=11, step=3, recommended=5, source="x")
    stepped.check(11, "bands")
    with pytest.raises(ValueError, match="must be a multiple of 3 above 2, but got 6"):
        stepped.check(6, "bands")


def test_the_documents_ranges_and_labels_are_kept():
    search = load("cvae_psf").search
    ranges = {name: (search[name].low, search[name].high, search[name].impact) for name in list(search)[:5]}
    assert ranges == {
        "kl_weight": (1e-5, 1e-3, "High"),
        "smooth_weight": (1e-4, 1e-2, "Medium"),
        "latent_dim": (64, 256, "High"),
        "hidden_dim": (256, 1024, "High"),
        "learning_rate": (1e-5, 1e-3, "High"),
    }


def test_a_conditional_parameter_exists_only_where_its_condition_holds():
    cycles = "search.kl_cycles={low: 1, high: 8, recommended: 4, source: x, when: {lr_schedule: [one_cycle]}}"
    study = load("cvae_psf", [cycles])
    parameter = study.search["kl_cycles"]
    assert study.exists(parameter, {"lr_schedule": "one_cycle"})
    assert not study.exists(parameter, {"lr_schedule": "cosine"})
    assert "kl_cycles" not in study.recommended()  # recommended schedule: constant


def test_edges_are_measured_on_the_scale_of_the_range():
    study = load("cvae_psf")
    # 1e-5 .. 1e-3: two decades, 5 % of them are a tenth of a decade, a factor of 1.26.
    assert study.edge("learning_rate", 1e-3) == "upper"
    assert study.edge("learning_rate", 0.81e-3) == "upper"
    assert study.edge("learning_rate", 0.78e-3) is None
    assert study.edge("learning_rate", 1.2e-5) == "lower"
    assert study.edge("fourier_bands", 2) == "lower"
    assert study.edge("fourier_bands", 3) is None
    assert study.edge("batch_size", 32) is None  # choices have no edge


def test_integers_are_told_from_floats_by_the_model():
    study = load("cvae_psf")
    assert study.is_integer("latent_dim")
    assert not study.is_integer("recon_scale")  # its bounds in the file are whole numbers


def test_a_set_of_several_depths_has_three_conditions():
    distances, waves = (-1000, -5000), (0.656, 0.587, 0.486)
    data = PsfData(lens="x", depths_mm=distances, wavelengths_um=waves, validation_points=10, test_points=20)
    assert data.conditions == ("x", "y", "depth_mm")
    assert data.kernels() == {"train": 800, "validation": 20, "test": 40}
    assert data.rays_total() == 3 * (800 * 4096 + 60 * 32768)


@pytest.mark.parametrize(
    "values",
    [
        {"choices": (1, 2), "low": 1, "recommended": 1},
        {"choices": (), "recommended": 1},
        {"low": 1, "recommended": 1},
        {"low": 1, "high": 2, "log": True, "step": 1, "recommended": 1},
        {"low": 1, "high": 2, "recommended": True},
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused(values):
    with pytest.raises(ValidationError):
        Parameter(source="x", **values)


def test_configuration_is_immutable():
    with pytest.raises(ValidationError):
        CvaePsfTrial().kl_weight = 1.0  # type: ignore[misc]


def test_only_held_out_metrics_with_a_direction_may_be_optimised():
    system = load("cvae_psf").system
    assert "val/prior_rel_l2" in system.objectives
    assert all(name.startswith("val/") and system.metrics[name].mode for name in system.objectives)
    assert "val/kl" not in system.objectives


@pytest.mark.parametrize(
    ("range_", "points", "whole", "expected"),
    [
        ({"low": 0.0, "high": 1.0}, 5, False, [0, 0.25, 0.5, 0.75, 1]),
        ({"low": 1e-4, "high": 1e-2, "log": True}, 3, False, [1e-4, 1e-3, 1e-2]),  # by ratio
        ({"low": 1e-5, "high": 1e-2, "log": True}, 4, False, [1e-5, 1e-4, 1e-3, 1e-2]),
        ({"low": 3, "high": 5}, 2, True, [3, 5]),
        ({"low": 3, "high": 5}, 9, True, [3, 4, 5]),  # there are no more
        ({"low": 2, "high": 5}, 3, True, [2, 4, 5]),  # 3.5 is rounded up
        ({"low": 64, "high": 256, "log": True}, 3, True, [64, 128, 256]),
        ({"low": 2, "high": 11, "step": 3}, 3, True, [2, 8, 11]),
        ({"low": 0, "high": 11, "step": 3}, 2, True, [0, 9]),  # the range ends where its last step does
        ({"low": 0.0, "high": 0.3, "step": 0.1}, 4, False, [0, 0.1, 0.2, 0.3]),
        ({"low": 0.0, "high": 1.0, "step": 0.5}, 9, False, [0, 0.5, 1]),
        ({"low": 7, "high": 7}, 3, True, [7]),
        ({"low": 1.0, "high": 1.0, "log": True}, 3, False, [1]),
    ],
)
def test_the_values_of_a_range_are_evenly_spaced(range_, points, whole, expected):
    found = Parameter(**range_, recommended=range_["low"], source="x").values(points, whole)
    assert found == [pytest.approx(value, rel=1e-12) for value in expected]
    assert all(type(value) is (int if whole else float) for value in found)


@given(
    low=st.integers(-50, 50),
    width=st.integers(0, 200),
    step=st.none() | st.integers(1, 40),
    points=st.integers(2, 12),
    whole=st.booleans(),
)
def test_the_values_of_a_range_could_be_suggested_by_the_search(low, width, step, points, whole):
    scale = 1 if whole else 0.1
    parameter = Parameter(
        low=scale * low,
        high=scale * (low + width),
        step=None if step is None else scale * step,
        recommended=scale * low,
        source="x",
    )
    found = parameter.values(points, whole)
    for value in found:
        parameter.check(value, "value")
    assert found == sorted(set(found), key=float)
    assert len(found) <= points
    assert found[0] == parameter.low


def test_the_values_of_choices_are_all_of_them():
    parameter = Parameter(choices=("a", 2, 0.5, True), recommended="a", source="x")
    assert parameter.values(2, whole=False) == ["a", 2, 0.5, True]


def test_the_grid_combines_the_values_of_what_is_searched():
    study = load("cvae_psf", ["grid_points=2"])
    grid = study.grid()
    assert list(grid) == list(study.search)
    assert grid["learning_rate"] == [1e-5, 1e-3]
    assert grid["latent_dim"] == [64, 256]
    assert grid["batch_size"] == [32, 64, 128]
    assert math.prod(map(len, grid.values())) == 2**8 * 3**3


def test_a_constraint_s_violation_is_how_far_a_value_is_outside():
    most, least = Constraint(metric="val/kl", high=5.0), Constraint(metric="val/kl", low=5.0)
    assert [most.violation(value) for value in (7.5, 5.0, 4.0)] == [2.5, 0.0, -1.0]
    assert [least.violation(value) for value in (7.5, 5.0, 4.0)] == [-2.5, 0.0, 1.0]
    assert Constraint(metric="val/kl", low=0.0).violation(-1.0) == 1.0  # a bound of 0 is one


@pytest.mark.parametrize("bounds", [{}, {"low": 1.0, "high": 2.0}])
def test_a_constraint_has_one_bound(bounds):
    with pytest.raises(ValidationError, match="one of `low` and `high` must be given"):
        Constraint(metric="val/kl", **bounds)


def test_one_objective_unless_told():
    study = load("cvae_psf")
    assert study.objectives == (study.objective,)
    assert study.watched == ("val/prior_rel_l2",)
    assert (study.sampler, study.scheduler, study.constraints) == ("auto", "asha", ())


def test_all_that_a_trial_is_judged_by_is_watched():
    study = load(
        "cvae_psf",
        [
            "scheduler=none",
            "further_objectives=[{metric: val/prior_psnr, mode: max}]",
            "constraints=[{metric: val/kl, high: 5}, {metric: val/active_units, low: 4}]",
        ],
    )
    assert study.objectives == (study.objective, Objective(metric="val/prior_psnr", mode="max"))
    assert study.watched == ("val/prior_rel_l2", "val/prior_psnr", "val/kl", "val/active_units")


def test_a_study_is_the_same_after_its_record():
    """A run records it as JSON without what is None, and a resumed one reads that."""
    overrides = [
        "constraints=[{metric: val/kl, high: 5}]",
        "budget.quick.target=0.02",
        "budget.full.max_hours=2.5",
        "sampler=gp",
        "scheduler=median",
    ]
    study = load("cvae_psf", overrides)
    assert Study.model_validate(study.model_dump(mode="json", exclude_none=True)) == study
