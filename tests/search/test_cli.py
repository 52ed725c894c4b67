"""Bad input: exit code 2, one helpful line, and nothing heavy loaded, let alone started."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from search.api import plan_search
from search.cli import main
from tests.search.small import run_of, small

ROOT = Path(__file__).parents[2]
# Runs the command line in a fresh interpreter and says what it loaded.
PROBE = """
import sys
from search.cli import main
try:
    main(sys.argv[1:])
finally:
    print("loaded:", sorted({"ray", "torch", "optuna", "deeplens"} & sys.modules.keys()))
"""
RUN = ["run", "--space", "cvae_psf"]
EMPTY = ["--cache", "/nonexistent/cache"]  # where there is data, a plan measures its time with torch
FURTHER = "further_objectives=[{metric: val/kl, mode: min}]"


def command(arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", PROBE, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--space", "cvae_pfs"], "did you mean 'cvae_psf'"),
        ([], "--space: missing"),
        ([*RUN, "--preset", "quik"], "did you mean 'quick'"),
        (
            [*RUN, "--set", "search.kl_wieght.low=1"],
            "search.kl_wieght: unknown hyperparameter of cvae_psf; did you mean 'kl_weight'",
        ),
        ([*RUN, "--set", "search.kl_weight.low=1"], "`low <= high` must hold, but got (low=1, high=0.001)"),
        ([*RUN, "--set", "search.kl_weight.low=0"], "`low > 0` must hold with `log: true`"),
        ([*RUN, "--set", "search.kl_weight.recommended=1"], "`low <= recommended <= high` must hold"),
        ([*RUN, "--set", "objective.metric=val/prior_rel"], "did you mean 'val/prior_rel_l2'"),
        ([*RUN, "--set", "data.lens=cooke_triplet"], "did you mean 'cooke_triplet_50mm'"),
        ([*RUN, "--lens", "missing.json"], "missing.json"),
        ([*RUN, "--lens", "cooke_triplet_50mm #2"], "cooke_triplet_50mm #2"),  # no YAML comment
        ([*RUN, "--sampler", "{a: b}"], "sampler: "),
        ([*RUN, "--name", "a/b"], "--name a/b"),
        ([*RUN, "--set", "resources.lanes=1000"], "this machine has"),
        ([*RUN, "--lens", "cooke_triplet_50mm", "--set", "data.lens=double_gauss_100mm"], "--lens says that already"),
        ([*RUN, "--seed", "1", "--set", "seed=2"], "--seed says that already"),
        ([*RUN, "--trials", "5", "--set", "budget.quick.trials=7"], "--trials says that already"),
        ([*RUN, "--set", "resources.gpus_per_worker=64"], "this machine has"),
        (
            [*RUN, "--set", "data.stream={}", "--set", "resources.render_actors=0"],
            "resources.render_actors: data that is made while trials train needs at least 1",
        ),
        (
            [*RUN, "--set", "budget.quick.steps=900"],
            "this run has the preset standard; set budget.standard, or --preset quick",
        ),
        ([*RUN, "--out", "/dev/null/runs"], "--out /dev/null/runs: cannot be written to"),
        ([*RUN, "--cache", "/dev/null/cache"], "--cache /dev/null/cache: cannot be written to"),
        ([*RUN, "--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers there"),
        (["--resume", "no-such-run"], "no-such-run"),
        (["--space", "missing.yaml"], "--space missing.yaml: no such file"),
        (["--resume", "x", "--seed", "1"], "--seed: goes with a new run"),
        ([*RUN, "--max-hours", "0"], "budget.standard.max_hours: input should be greater than 0, but got 0.0"),
        ([*RUN, "--max-hours", "nan"], "budget.standard.max_hours: "),
        ([*RUN, "--preset", "quik", "--max-hours", "1"], "--preset quik: space cvae_psf has no such budget"),
        ([*RUN, "--target", "nan"], "budget.standard.target: "),
        (
            [*RUN, "--target", "0.1", "--scheduler", "none", "--set", FURTHER],
            "`target` goes with one objective",
        ),
        (
            [*RUN, "--sampler", "tpo"],
            "sampler: input should be 'auto', 'tpe', 'random', 'sobol', 'gp', 'cmaes', 'nsga2' or 'grid'",
        ),
        (
            [*RUN, "--sampler", "grid"],
            "sampler: the grid has 177,147 points, at most 10,000 are searched; fix parameters",
        ),
        ([*RUN, "--scheduler", "asah"], "scheduler: input should be 'asha', 'median' or 'none', but got 'asah'"),
        ([*RUN, "--set", FURTHER], "several objectives need `scheduler: none`"),
        ([*RUN, "--warm-start", "no-such-run"], "no-such-run: no such run"),
        ([*RUN, "--trials", "0"], "--trials"),
        ([*RUN, "--trials", "many"], "--trials"),
        ([*RUN, "--seed", str(2**31)], "--seed"),
        ([*RUN, "--set", f"seed={2**31}"], "seed: "),
        (
            ["run", "--space", "cvae_asbuilt", "--preset", "quick", "--set", "data.units=2"],
            "`components <= 4 * units * positions` must hold",
        ),
        ([*RUN, "--pre", "quick"], "--pre"),
        ([*RUN, "more"], "more"),
        (["sensitivity", "--space", "cvae_psf", "--trials", "15"], "--trials"),
        (["sensitivity", "--space", "cvae_psv"], "cvae_psf"),
    ],
)
def test_bad_input(arguments, says):
    done = command(arguments if arguments and arguments[0] in ("run", "sensitivity") else ["run", *arguments])
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "loaded: []" in done.stdout


def test_a_space_file_of_one_s_own_is_named_in_its_errors(tmp_path):
    (tmp_path / "mine.yaml").write_text("space: mine\nspace: twice\n")
    done = command(["run", "--space", "mine.yaml"], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == 'psf-search: mine.yaml: line 2: found duplicate key "space"\n'


def test_malformed_lens_file(tmp_path):
    (tmp_path / "lens.json").write_text("{")
    done = command(["run", "--space", "cvae_psf", "--lens", tmp_path / "lens.json"])
    assert done.returncode == 2
    assert "lens.json" in done.stderr
    assert "loaded: []" in done.stdout


def test_dry_run_shows_the_plan_and_starts_nothing(tmp_path):
    done = command(
        [*RUN, "--preset", "quick", "--dry-run", "--set", "data.grid=[5, 7]", "--out", tmp_path / "runs", *EMPTY]
    )
    assert done.returncode == 0, done.stderr
    assert "35 train, 200 validation, 300 test" in done.stdout
    assert "choices: [constant, cosine, one_cycle]" in done.stdout  # words in brackets are no markup
    assert "rungs" in done.stdout
    assert not (tmp_path / "runs").exists()
    assert "loaded: []" in done.stdout


def test_dry_run_says_what_the_preset_sets(tmp_path):
    options = ["--space", "vae_psf", "--preset", "full", "--dry-run", "--out", tmp_path / "runs", *EMPTY]
    done = command(["run", *options])
    assert done.returncode == 0, done.stderr
    assert "full sets data.kernel_px=64" in done.stdout
    assert "kernel_px: 64" in done.stdout


def test_version():
    done = command(["--version"])
    assert (done.returncode, done.stdout.splitlines()) == (0, [version("psf-search"), "loaded: []"])


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["run", "--help"], 0)])
def test_help(arguments, code):
    done = command(arguments)
    assert done.returncode == code
    assert "Usage: psf-search" in done.stdout
    assert done.stderr == ""


def test_list_spaces():
    done = command(["run", "--list-spaces"])
    assert done.returncode == 0
    assert "cvae_psf " in done.stdout
    assert "cvae_psf_wide " in done.stdout


def test_a_taken_name_is_refused(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "run.json").write_text("{}")
    done = command([*RUN, "--name", "taken", "--out", tmp_path])
    assert done.returncode == 2
    assert "--resume taken" in done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the recorded run `a-run`, of the preset quick."""
    root = tmp_path_factory.mktemp("runs")
    run_of(root / "a-run", small(sampler="random"), 2)
    return root


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--space", "cvae_psf"),
        ("--lens", "cooke_triplet_50mm"),
        ("--name", "other"),
        ("--preset", "quick"),
        ("--seed", "0"),
        ("--sampler", "tpe"),
        ("--scheduler", "asha"),
        ("--warm-start", "a-run"),
    ],
)
def test_what_goes_with_a_new_run_is_refused_with_resume(runs, option, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--resume", "a-run", option, value, "--out", str(runs)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"psf-search: {option}: goes with a new run, not with --resume, which keeps the run's own\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--set", "sampler=tpe"],
            "--set sampler=tpe: would make another run of it, start a new one; with --resume may",
        ),
        (["--set", "budget.standard.trials=9"], "--set budget.standard.trials=9: would make another run of it"),
        (["--max-hours", "-1"], "budget.quick.max_hours: input should be greater than 0, but got -1.0"),
        (["--set", "search.learning_rate.high=1e-6"], "`low <= high` must hold"),
    ],
)
def test_a_bad_change_of_a_resumed_run(runs, arguments, says):
    done = command(["run", "--resume", "a-run", *arguments, "--out", runs])
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "loaded: []" in done.stdout


QUICK = ["--space", "cvae_psf", "--preset", "quick", "--resume-or-start"]


def test_resume_or_start_plans_a_run_that_is_not_there_and_goes_on_with_one_that_is(runs):
    """The same command, started again by a scheduler."""
    settings = ["--set", "search.kl_weight.high=1e-2", "--seed", "3"]
    new = plan_search("cvae_psf", preset="quick", name="new", resume_or_start=True, out=runs)
    assert not new.resume
    done = command(["run", *QUICK, "--name", "a-run", *settings, "--dry-run", "--out", runs, *EMPTY])
    assert done.returncode == 0, done.stderr
    there = plan_search("cvae_psf", preset="quick", name="a-run", resume_or_start=True, out=runs)
    assert there.resume
    assert there.study == small(sampler="random")  # what was recorded, not what the shipped space has today
    assert there.changes == ()


def test_resume_or_start_extends_a_run_once(runs):
    def planned(trials):
        return plan_search(
            "cvae_psf", preset="quick", name="a-run", resume_or_start=True, limits={"trials": trials}, out=runs
        )

    assert planned(40).budget.trials == 40
    assert planned(40).changes == ("budget.quick.trials=40",)
    assert planned(18).changes == ()  # as it is already


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (QUICK, "--resume-or-start: needs --name"),
        ([*QUICK, "--resume", "a-run"], "--resume-or-start: goes with --name, not with --resume"),
        (["--space", "vae_mnist", *QUICK[2:], "--name", "a-run"], "searches cvae_psf with the preset quick"),
        ([*QUICK[:2], "--resume-or-start", "--name", "a-run"], "not cvae_psf with standard; choose another name"),
    ],
)
def test_resume_or_start_with_something_else(runs, arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments, "--out", str(runs)])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_the_limits_of_a_resumed_run_are_its_preset_s(runs):
    limits = ["--trials", "40", "--max-hours", "1.5", "--target", "0.02", "--set", "search.learning_rate.high=1e-2"]
    before = (runs / "a-run" / "run.json").read_bytes()
    done = command(["run", "--resume", "a-run", *limits, "--dry-run", "--out", runs, *EMPTY])
    assert done.returncode == 0, done.stderr
    plan = " ".join(done.stdout.split())
    assert "preset quick: 40 trials" in plan
    assert "max_hours: 1.5" in plan
    assert "target: 0.02" in plan
    assert "high: 0.01" in plan
    assert "loaded: []" in done.stdout
    assert (runs / "a-run" / "run.json").read_bytes() == before


def test_a_new_run_s_limits_sampler_and_scheduler(tmp_path):
    options = ["--trials", "7", "--max-hours", "1.5", "--target", "2e-2", "--sampler", "gp", "--scheduler", "median"]
    done = command([*RUN, *options, "--set", "budget.standard.least_gain=0.05", "--dry-run", "--out", tmp_path, *EMPTY])
    assert done.returncode == 0, done.stderr
    plan = " ".join(done.stdout.split())
    for line in (
        "trials: 7",
        "max_hours: 1.5",
        "target: 0.02",
        "least_gain: 0.05",
        "sampler: gp",
        "scheduler: median",
    ):
        assert line in plan
    assert "preset standard: 7 trials" in plan
    assert "loaded: []" in done.stdout


def test_a_warm_start_is_checked_before_anything_starts(runs):
    options = [*RUN, "--warm-start", "a-run", "--out", runs]
    done = command([*options, "--dry-run", *EMPTY])
    assert done.returncode == 0, done.stderr
    done = command([*options, "--set", "objective={metric: val/prior_psnr, mode: max}"])
    assert done.returncode == 2
    assert done.stderr == (
        "psf-search: --warm-start a-run: it optimised val/prior_rel_l2 (min), this run val/prior_psnr (max)\n"
    )
    assert sorted(path.name for path in runs.iterdir()) == ["a-run"]
