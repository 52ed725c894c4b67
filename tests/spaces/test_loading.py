"""Strict loading: every mistake is one line that names the file, the key and what would be valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from spaces.errors import SpaceError
from spaces.loading import SPACES, available, choose_preset, load, override, read

SHIPPED = (SPACES / "cvae_psf.yaml").read_text()


@pytest.fixture
def edited(tmp_path: Path):
    """Write the shipped space with one piece of text replaced; return its path."""

    def write(old: str, new: str) -> str:
        assert SHIPPED.count(old) == 1
        path = tmp_path / "mine.yaml"
        path.write_text(SHIPPED.replace(old, new))
        return str(path)

    return write


def message(space: str, *overrides: str) -> str:
    with pytest.raises(SpaceError) as caught:
        load(space, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", available())
def test_shipped_space_loads_and_its_recommended_trial_is_valid(name):
    study = load(name)
    assert study.space == name
    trial = study.trial(study.recommended()).model_dump()
    assert all(trial[key] == value for key, value in study.recommended().items())
    assert set(study.budget) == {"quick", "standard", "full"}


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for name in available() for preset in ("quick", "standard", "full")]
)
def test_every_preset_of_a_shipped_space_holds_together(name, preset):
    tree, where = read(name)
    choose_preset(tree, preset, where)
    # What is a folder of the user's is named here, not read.
    root = ["data.root=DIR"] if tree["data"].get("images") in ("folder", "celeba") else []
    study = override(tree, root, where)
    budget = study.presets()[preset]
    for key, value in budget.set.items():
        section, field = key.split(".")
        assert getattr(getattr(study, section), field, None) == value or study.fixed.get(field) == value


def test_a_value_that_needs_others_is_checked_beside_them_and_not_alone():
    assert load("vae_residual").search["scales"].choices == (1, 3)  # of l1_weight, which is fixed
    assert "`scales` are those of `l1_weight`" in message("vae_celeba", "fixed.scales=2")


LEARNING_RATE = "{low: 1e-5, high: 1e-3, log: true, recommended: 1e-4, impact: High"
RATE_LINE = "  learning_rate:\n    " + LEARNING_RATE


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("resources: {", "resorces: {", ["resorces", "unknown key; did you mean 'resources'?"]),
        ("rays: 4096\n  held", "ray: 4096\n  held", ["data.ray", "unknown key; did you mean 'rays'?"]),
        ("  learning_rate:\n", "  learning_rte:\n", ["search.learning_rte", "did you mean 'learning_rate'?"]),
        ("  grad_clip: 1.0", "  grad_clp: 1.0", ["fixed.grad_clp", "did you mean 'grad_clip'?"]),
        (RATE_LINE, RATE_LINE.replace("log:", "logg:"), ["search.learning_rate.logg", "did you mean 'log'?"]),
        ("  quick: {", "  qick: {", ["budget.qick", "did you mean 'quick'?"]),
        ("model: cvae_psf", "model: cvae_psf\nmodel: cvae_psf", ["line", 'duplicate key "model"']),
        (RATE_LINE, RATE_LINE.replace("high: 1e-3", "high: 1e-6"), ["search.learning_rate", "`low <= high` must hold"]),
        (RATE_LINE, RATE_LINE.replace("low: 1e-5", "low: 0"), ["search.learning_rate", "`low > 0` must hold", "low=0"]),
        (
            RATE_LINE,
            RATE_LINE.replace("recommended: 1e-4", "recommended: 1"),
            ["search.learning_rate", "`low <= recommended <= high` must hold", "recommended=1"],
        ),
        ("recommended: constant", "recommended: linear", ["search.lr_schedule", "'linear'"]),
        (
            "metric: val/prior_rel_l2",
            "metric: val/prior_rel_l1",
            ["objective.metric", "did you mean 'val/prior_rel_l2'?"],
        ),
        ("metric: val/prior_rel_l2", "metric: train/loss", ["objective.metric", "unknown metric 'train/loss'"]),
        ("mode: min", "mode: max", ["objective", "val/prior_rel_l2 is better min"]),
        ("kernel_px: 15", "depths_mm: [10000]", ["data.depths_mm", "negative"]),
        ("held_out_rays: 32768", "held_out_rays: 8192", ["data", "`held_out_rays >= 8 * rays` must hold"]),
        ("grid: [20, 20]", "grid: [20, no]", ["data.grid", "got 'no'"]),
        ("grid: [20, 20]", "grid: [2000, 2000]", ["data", "at most 1,000,000 positions", "4,000,500"]),
        ("test_points: 300", "test_points: 1", ["data", "`test_points >= 2` must hold"]),
        ("kernel_px: 15", "kernel_px: 65\n  trace_px: 64", ["`kernel_px <= trace_px` must hold"]),
        ("  grad_clip: 1.0", "  kl_weight: 1.0", ["fixed.kl_weight", "searched as well"]),
        ("fixed:\n", "fixed:\n  kl_warmup: 0.5\n", ["grace_steps >= kl_warmup * steps", "grace_steps=120"]),
        ("objective: {", "objective: [", ["line", "not valid YAML"]),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_hint(edited, old, new, expected):
    path = edited(old, new)
    text = message(path)
    assert text.startswith(path + ":")
    for part in expected:
        assert part in text


@pytest.mark.parametrize("content", ["", "just text", "- a\n- b\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    assert "expected a mapping" in message(str(path))


def test_unknown_space_names_the_nearest():
    assert "did you mean 'cvae_psf'?" in message("cvae_pfs")


def test_overrides_follow_the_same_rules():
    study = load(
        "cvae_psf", ["search.learning_rate.high=1e-2", "data.rays=512", "budget.quick.trials=3", "fixed.smooth_term=kl"]
    )
    assert study.search["learning_rate"].high == 0.01
    assert study.data.model_dump()["rays"] == 512
    assert study.budget["quick"].trials == 3
    assert study.trial({}).model_dump()["smooth_term"] == "kl"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("search.learning_rate.high=1e-6", "`low <= high` must hold"),
        ("data.lense=mine.json", "did you mean 'lens'?"),
        ("objective.metric=val/priorrel_l2", "did you mean 'val/prior_rel_l2'?"),
        ("data.rays.more=1", "is a single value"),
        ("data.rays", "expected key.path=value"),
        ("data.rays=many", "got 'many'"),
        ("search.learning_rate={low: 1", "not valid YAML"),
        ("points_to_evaluate=[{latent_dims: 64}]", "points_to_evaluate.0.latent_dims: is not searched; did you mean"),
        ("points_to_evaluate=[{latent_dim: 32}]", "`low <= latent_dim <= high` must hold"),
        (
            "points_to_evaluate=[{latent_dim: 100.5}]",
            "points_to_evaluate.0.latent_dim: input should be a valid integer",
        ),
        ("points_to_evaluate=[{free_bits: false}]", "must be one of [0, 0.05, 0.25]"),
        ("data.stream={kernel: 5}", "data.stream.kernel: unknown key; did you mean 'kernels'?"),
        (
            "points_to_evaluate=[{lr_schedule: linear}]",
            "input should be 'constant', 'cosine', 'cosine_restarts' or 'one_cycle'",
        ),
        (
            "sampler=tpo",
            "sampler: input should be 'auto', 'tpe', 'random', 'sobol', 'gp', 'cmaes', 'nsga2' or 'grid', but got 'tpo'",
        ),
        ("scheduler=asah", "scheduler: input should be 'asha', 'median' or 'none', but got 'asah'"),
        ("smapler=tpe", "smapler: unknown key; did you mean 'sampler'?"),
        ("sampler=grid", "sampler: the grid has 177,147 points, at most 10,000 are searched; fix parameters"),
        ("grid_points=1", "grid_points: input should be greater than or equal to 2, but got 1"),
        ("budget.quick.max_hours=0", "budget.quick.max_hours: input should be greater than 0"),
        ("budget.quick.target=low", "budget.quick.target: input should be a valid number"),
        ("budget.quick.least_gain=1.5", "budget.quick.least_gain: input should be less than 1, but got 1.5"),
        ("budget.quick.finalists=-1", "budget.quick.finalists: input should be greater than or equal to 0"),
        ("budget.quick.finalist_seeds=0", "budget.quick.finalist_seeds: input should be greater than 0"),
        ("constraints=[{metric: val/kl}]", "constraints.0: one of `low` and `high` must be given"),
        ("constraints=[{metric: val/kl, low: 1, high: 2}]", "constraints.0: one of `low` and `high` must be given"),
        ("constraints=[{metric: val/kl, hihg: 2}]", "constraints.0.hihg: unknown key; did you mean 'high'?"),
        (
            "constraints=[{metric: val/kl, low: 1}, {metric: val/kll, high: 2}]",
            "constraints.1.metric: unknown metric 'val/kll'; did you mean 'val/kl'?",
        ),
        (
            "constraints=[{metric: train/loss, high: 2}]",
            "constraints.0.metric: unknown metric 'train/loss'; valid: val/",
        ),
    ],
)
def test_a_bad_override_is_named(override, expected):
    text = message("cvae_psf", override)
    assert text.startswith(f"--set {override}")
    assert expected in text


def test_numbers_and_words_are_read_as_written(edited):
    """YAML 1.1 would read 1e-4 as a string and `no` as False."""
    study = load(edited("lens: cooke_triplet_50mm", "lens: no"))
    assert study.data.model_dump()["lens"] == "no"
    assert study.search["learning_rate"].recommended == 1e-4
    assert isinstance(study.search["learning_rate"].recommended, float)


def test_the_wide_space_only_widens():
    """`cvae_psf_wide` repeats `cvae_psf` but for its ranges, each of which holds the other's."""
    narrow, wide = load("cvae_psf"), load("cvae_psf_wide")
    for key in ("fixed", "points_to_evaluate", "data", "objective", "budget", "resources", "model"):
        assert getattr(wide, key) == getattr(narrow, key)
    assert wide.search.keys() == narrow.search.keys()
    for name, parameter in narrow.search.items():
        other = wide.search[name]
        assert (other.recommended, other.log, other.choices) == (
            parameter.recommended,
            parameter.log,
            parameter.choices,
        )
        if parameter.low is not None and parameter.high is not None:
            assert other.low is not None
            assert other.high is not None
            assert other.low <= parameter.low <= parameter.high <= other.high


def test_a_condition_refers_to_a_parameter_listed_before():
    late = "search.kl_weight.when={lr_schedule: [cosine]}"
    with pytest.raises(SpaceError, match="`lr_schedule` must be listed before `kl_weight`"):
        load("cvae_psf", [late])


KL = "further_objectives=[{metric: val/kl, mode: min}]"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((KL,), "several objectives need `scheduler: none`, as a stopped trial has no place on the Pareto front"),
        ((KL, "scheduler=median"), "but got (scheduler=median)"),
        (
            (KL, "scheduler=none", "sampler=cmaes"),
            "the sampler cmaes takes one objective; with several: tpe, random, sobol, gp, nsga2 or grid",
        ),
        ((KL, "scheduler=none", "budget.quick.target=0.1"), "`target` goes with one objective"),
        ((KL, "scheduler=none", "budget.full.least_gain=0.1"), "`least_gain` goes with one objective"),
        (
            ("scheduler=none", "further_objectives=[{metric: val/kl, mode: min}, {metric: val/kl, mode: max}]"),
            "objectives must differ, but got ['val/prior_rel_l2', 'val/kl', 'val/kl']",
        ),
        (
            ("scheduler=none", "further_objectives=[{metric: val/prior_rel_l2, mode: min}]"),
            "objectives must differ, but got ['val/prior_rel_l2', 'val/prior_rel_l2']",
        ),
        (
            ("scheduler=none", "further_objectives=[{metric: val/prior_rel_l1, mode: min}]"),
            "further_objectives.0.metric: unknown metric 'val/prior_rel_l1'; did you mean 'val/prior_rel_l2'?",
        ),
        (
            ("scheduler=none", "further_objectives=[{metric: train/loss, mode: min}]"),
            "further_objectives.0.metric: unknown metric 'train/loss'; valid: val/",
        ),
        (
            ("scheduler=none", "further_objectives=[{metric: val/prior_psnr, mode: min}]"),
            "further_objectives.0: val/prior_psnr is better max, but got (mode=min)",
        ),
        (
            ("scheduler=none", "further_objectives=[{metrc: val/kl, mode: min}]"),
            "further_objectives.0.metrc: unknown key; did you mean 'metric'?",
        ),
        (
            (
                "sampler=grid",
                "search.kl_cycles={low: 1, high: 8, recommended: 4, source: x, when: {lr_schedule: [cosine]}}",
            ),
            "the sampler grid knows no conditions, but `search.kl_cycles` has `when`",
        ),
        (
            (
                "search.target_rate={low: 1, high: 9, recommended: 5, source: x}",
                "search.kl_weight.low=0",
                "search.kl_weight.log=false",
                "search.kl_weight.recommended=0",
            ),
            "fixed: with the recommended values: `target_rate` needs `kl_weight > 0`",
        ),
        (
            (
                "search.target_rate={low: 0, high: 9, recommended: 0, source: x}",
                "search.kl_weight.low=0",
                "search.kl_weight.log=false",
                "points_to_evaluate=[{kl_weight: 0, target_rate: 5}]",
            ),
            "points_to_evaluate.0: `target_rate` needs `kl_weight > 0`",
        ),
    ],
)
def test_what_does_not_go_together_is_named(overrides, expected):
    assert expected in message("cvae_psf", *overrides)


@pytest.mark.parametrize("sampler", ["auto", "tpe", "random", "gp", "nsga2", "grid"])
def test_several_objectives_of_any_direction(sampler):
    """A diagnostic, too, has a direction here: the one that it is given."""
    further = "further_objectives=[{metric: val/prior_psnr, mode: max}, {metric: val/kl, mode: min}]"
    study = load("cvae_psf", [further, "scheduler=none", f"sampler={sampler}", "grid_points=2"])
    assert [one.mode for one in study.objectives] == ["min", "max", "min"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("objective: {", "sampler: tpo\nobjective: {", "sampler: input should be 'auto', 'tpe'"),
        ("objective: {", "scheduler: hyperband\nobjective: {", "scheduler: input should be 'asha', 'median' or 'none'"),
        (
            "objective: {",
            "constraints: [{metric: val/kll, low: 1}]\nobjective: {",
            "constraints.0.metric: unknown metric",
        ),
        ("objective: {", f"{KL.replace('=', ': ', 1)}\nobjective: {{", "several objectives need `scheduler: none`"),
    ],
)
def test_mistakes_in_a_file_name_it(edited, old, new, expected):
    path = edited(old, new)
    told = message(path)
    assert told.startswith(f"{path}: ")
    assert expected in told


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_bytes(b"\xff\xfe")
    assert message(str(path)).startswith(f"{path}: cannot be read")


def test_a_space_that_is_based_on_itself_by_another_path_is_refused(tmp_path):
    (tmp_path / "one").mkdir()
    path = tmp_path / "one" / "space.yaml"
    path.write_text("base: ../one/space.yaml\n")
    assert "the space is based on itself" in message(str(path))


def test_convolutions_need_kernels_that_halve_four_times():
    with pytest.raises(SpaceError, match=r"kernel_px.*multiple of 16.*kernel_px=24"):
        load("vae_psf", ["data.kernel_px=24"])
