"""Behaviour of the typed study: recommended values, conditional parameters, edges, budgets, data-set sizes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from spaces.loading import load
from spaces.metrics import METRICS, OBJECTIVES
from spaces.study import Budget, Parameter, PsfData
from spaces.trial import CvaePsfTrial


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
    data = PsfData(lens="x", pixel_pitch_um=3.2, depths_mm=(-1000, -5000), validation_points=10, test_points=20)
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
    assert "val/prior_rel_l2" in OBJECTIVES
    assert all(name.startswith("val/") and METRICS[name].mode for name in OBJECTIVES)
    assert "val/kl" not in OBJECTIVES
