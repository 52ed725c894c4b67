"""Bad input: exit code 2, one helpful line, and nothing heavy loaded, let alone started."""

import subprocess
import sys
from pathlib import Path

import pytest

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
        ([*RUN, "--name", "a/b"], "--name a/b"),
        ([*RUN, "--set", "resources.lanes=1000"], "this machine has"),
        ([*RUN, "--set", "resources.gpus_per_worker=64"], "this machine has"),
        (
            [*RUN, "--set", "data.stream={}", "--set", "resources.render_actors=0"],
            "resources.render_actors: data.stream needs at least 1",
        ),
        (
            [*RUN, "--set", "budget.quick.steps=900"],
            "this run has the preset standard; set budget.standard, or --preset quick",
        ),
        ([*RUN, "--out", "/dev/null/runs"], "--out /dev/null/runs: cannot be written to"),
        ([*RUN, "--cache", "/dev/null/cache"], "--cache /dev/null/cache: cannot be written to"),
        ([*RUN, "--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers there"),
        (["--resume", "no-such-run"], "no-such-run"),
        (["--resume", "x", "--seed", "1"], "--seed: goes with a new run"),
    ],
)
def test_bad_input(arguments, says):
    done = command(arguments if arguments and arguments[0] == "run" else ["run", *arguments])
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
    done = command([*RUN, "--preset", "quick", "--dry-run", "--set", "data.grid=[5, 7]", "--out", tmp_path / "runs"])
    assert done.returncode == 0, done.stderr
    assert "35 train, 200 validation, 300 test" in done.stdout
    assert "rungs" in done.stdout
    assert not (tmp_path / "runs").exists()
    assert "loaded: []" in done.stdout


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
