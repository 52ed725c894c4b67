"""Whole searches through the command line, tiny: real rays, real lanes, real Tune and Optuna."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib.image import imread

from results.explorer import section
from results.records import read_trials
from results.run import open_run
from results.run_directory import RunDirectory
from search.cli import main
from search.storage.own_disk import OWN_DISK
from tests.processes import ray_processes, tree, wait_for_the_end
from tests.search.small import run_of, small
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STEPS, TRIALS = 60, 6
SETTINGS = [
    f"budget.quick.steps={STEPS}",
    "budget.quick.grace_steps=10",
    "budget.quick.evaluate_every=20",
    "data.grid=[4, 4]",
    "data.rays=128",
    "data.held_out_rays=1024",
    "data.validation_points=6",
    "data.test_points=6",
    "search.hidden_dim.low=16",
    "search.hidden_dim.recommended=32",
    "search.hidden_dim.high=32",
]


def command(*arguments):
    return [sys.executable, str(ROOT / "search" / "run.py"), *map(str, arguments)]


def new_run(root, name, *more, trials=TRIALS):
    settings = [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]
    options = ["--space", "cvae_psf", "--preset", "quick", "--trials", trials, "--name", name]
    return command(*options, *settings, "--out", root / "runs", "--cache", root / "cache")


def study_of(root, name):
    return optuna.load_study(study_name=name, storage=f"sqlite:///{root}/runs/{name}/study.db")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def first(root):
    """A finished search: what it printed, and its directory."""
    done = subprocess.run(new_run(root, "first"), capture_output=True, text=True, cwd=root, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, root / "runs" / "first"


def test_it_ends_with_a_summary_that_compares(first):
    _, run = first
    summary = json.loads((run / "summary.json").read_text())
    assert summary["space"] == "cvae_psf"
    assert summary["objective"] == {"metric": "val/prior_rel_l2", "mode": "min"}
    assert sum(summary["trials"].values()) == TRIALS
    methods = {"renderer", "nearest", "bilinear", "bicubic", "pca_rbf", "rbf_cubic"}
    assert summary["test"].keys() == {"reference", "best", *methods}
    assert summary["final"]["baselines"].keys() == methods
    assert summary["ended"] == f"trials: all {TRIALS} have ended"
    assert all(0 < scores["prior_rel_l2"] < 2 for scores in summary["test"].values())
    assert summary["prepared"]["rays traced"] == 3 * 320 * (
        3 + 12
    )  # wavelengths; rays of a map; radii of the grid and held out
    assert summary["seconds"] > 0


def test_every_trial_is_in_the_study_once_with_its_end(first, root):
    trials = study_of(root, "first").trials
    assert len(trials) == TRIALS
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert trials[0].state.name == "COMPLETE"  # the reference is never stopped
    assert trials[0].params["learning_rate"] == 1e-4
    for trial in trials:
        assert trial.last_step == (STEPS if trial.state.name == "COMPLETE" else trial.last_step)
        assert trial.last_step in (10, 20, 40, STEPS)


def test_the_exported_model_works_on_its_own(first):
    _, run = first
    pytest.importorskip("torch")
    from results import load_model

    kernels = load_model(run / "model").psf([[0.0, 0.5], [-1.0, 1.0]])
    assert kernels.shape == (2, 3, 15, 15)
    assert np.allclose(kernels.sum((2, 3)), 1, atol=1e-5)
    assert "load_model" in (run / "model" / "card.md").read_text()
    assert f"<h1>{run.name}</h1>" in (run / "report.html").read_text()
    assert "\nfixed:\n" in (run / "model" / "best_hyperparameters.yaml").read_text()


def test_tensorboard_has_hparams_scalars_and_images(first):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run = first
    events = EventAccumulator(str(run / "tensorboard" / "00000"), size_guidance={"images": 0}).Reload()
    assert "val/prior_rel_l2" in events.Tags()["scalars"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    shown = events.Images("psfs")
    assert [image.step for image in shown] == [10, 40, STEPS]  # the rungs and the end
    assert all(image.height > 4 * 8 * 15 and image.width > 6 * 8 * 15 for image in shown)
    winner = EventAccumulator(str(run / "tensorboard" / "winner"), size_guidance={"images": 0}).Reload()
    best = json.loads((run / "summary.json").read_text())["best"]
    assert [image.step for image in winner.Images("psfs")] == [best["step"]]


def test_the_terminal_shows_the_search_and_nothing_of_the_libraries(first):
    printed, run = first
    assert "At the test set" in printed
    assert str(run / "summary.json") in printed.replace("\n", "") or "summary" in printed
    assert "raylet" not in printed
    assert "WARNING" not in printed
    assert (run / "figures" / "psfs.png").stat().st_size > 10_000


def test_the_winner_can_be_explored_in_a_report(first, capsys):
    """Made by the finals, and again with the figures."""
    _, run = first
    assert section(run) is not None
    (run / "explorer.safetensors").unlink()
    assert section(run) is None
    assert figures(capsys, run)[0] == 0
    assert section(run) is not None


def test_analyze_reads_the_run(first, root):
    done = subprocess.run(
        [sys.executable, "-m", "search.cli", "analyze", "first", "--out", str(root / "runs"), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    analysis = json.loads(done.stdout)
    assert len(analysis["trials"]) == TRIALS
    assert analysis["finished"] is True


def figures(capsys, *arguments):
    """Exit code, what is printed and what is said of `psf-search figures`."""
    with pytest.raises(SystemExit) as ended:
        main(["figures", *map(str, arguments)])
    return ended.value.code, *capsys.readouterr()


def test_figures_are_drawn_again_also_of_data_that_is_gone(first, tmp_path, capsys):
    _, run = first
    before = imread(run / "figures" / "psfs.png")
    for more, says in (([], False), (["--cache", tmp_path / "cache"], True)):
        code, printed, said = figures(
            capsys, run, "--only", "psfs", "--format", "png", "--format", "csv", "--out", tmp_path / "again", *more
        )
        assert (code, printed) == (0, "".join(f"{tmp_path / 'again' / 'psfs'}.{one}\n" for one in ("png", "csv"))), said
        assert (tmp_path / "again" / "psfs.csv").read_bytes() == (run / "figures" / "psfs.csv").read_bytes()
        assert ("preparing" in said) == says
        assert np.allclose(imread(tmp_path / "again" / "psfs.png"), before, atol=0.02)


def test_figures_that_cannot_be_drawn(first, tmp_path, capsys):
    run_of(tmp_path / "going", small())
    for arguments, expected, says in (
        ((first[1], "--only", "psf"), 2, "--only psf: run first has no such figure; did you mean 'psfs'"),
        ((first[1], "--only", "samples"), 2, "--only samples: run first has no such figure; valid: "),
        ((first[1], "--format", "pdf"), 2, "--format pdf: "),
        ((tmp_path / "going",), 1, "run going: no trial has reported yet"),
        ((tmp_path / "going", "--only", "history"), 1, "--only history: run going: no trial has reported yet"),
        ((tmp_path / "going", "--only", "psfs"), 1, "--only psfs: run going has not ended, so there is no model yet"),
        ((tmp_path / "none",), 2, "none: no such run"),
        ((first[1], "--out", "/dev/null/figures"), 2, "--out /dev/null/figures: cannot be written to"),
    ):
        code, printed, said = figures(capsys, *arguments)
        assert (code, printed, said.count("\n")) == (expected, "", 1), said
        assert says in said


@pytest.mark.slow
def test_a_plan_measures_how_long_a_search_takes_once_its_data_is_there(first, root):
    plans = [
        subprocess.run(
            [*new_run(root, "planned"), "--dry-run", *more], capture_output=True, text=True, check=False
        ).stdout
        for more in ([], ["--set", "seed=1"])  # other held-out positions
    ]
    assert ["here a step of it takes" in plan for plan in plans] == [True, False]


def test_a_taken_name_is_refused_and_nothing_changes(first, root):
    before = (root / "runs" / "first" / "summary.json").read_bytes()
    done = subprocess.run(new_run(root, "first"), capture_output=True, text=True, cwd=root, timeout=60, check=False)
    assert done.returncode == 2
    assert "--resume first" in done.stderr
    assert (root / "runs" / "first" / "summary.json").read_bytes() == before


@pytest.mark.slow
def test_sensitivity_trains_an_even_design_to_the_end_and_says_what_matters(first, root):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    arguments = [
        "sensitivity",
        "--space",
        "cvae_psf",
        "--preset",
        "quick",
        "--trials",
        "16",
        "--name",
        "design",
        *settings,
    ]
    places = ["--out", str(root / "runs"), "--cache", str(root / "cache")]
    command = [sys.executable, "-m", "search.cli", *arguments, *places]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = study_of(root, "design").trials
    assert len(trials) == 16
    assert all(STEPS in trial.intermediate_values for trial in trials)
    study = open_run(root / "runs" / "design").directory.read_record().resolved_study()
    middle = study.search["learning_rate"].at(0.5, whole=False)
    assert 6 <= sum(trial.params["learning_rate"] < middle for trial in trials[1:]) <= 9
    said = " ".join(done.stdout.split())
    assert all(f"choosing {name} well" in said for name in study.search)


@pytest.mark.slow
def test_interrupted_and_resumed(first, root):
    """SIGINT saves and names the command; that command finishes the run; the data set is not rendered again.

    Only those checkpoints remain that may still be asked for.
    """
    others = ray_processes()
    process = subprocess.Popen(
        new_run(root, "second"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith("[2/"):  # two trials have ended
            process.send_signal(signal.SIGINT)
            break
    printed += process.stdout.read()
    assert process.wait(timeout=60) == 130
    assert "--resume second" in printed
    wait_for_the_end(others)
    states = [trial.state.name for trial in study_of(root, "second").trials]
    assert "RUNNING" not in states
    ended = [t for t in study_of(root, "second").trials if t.state.is_finished()]
    assert len(ended) >= 2

    done = subprocess.run(
        command("--resume", "second", "--out", root / "runs", "--cache", root / "cache"),
        capture_output=True,
        text=True,
        cwd=root,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = study_of(root, "second").trials
    assert len(after) == TRIALS
    assert all(trial.state.is_finished() for trial in after)
    for trial in ended:
        assert after[trial.number].value == trial.value
    assert json.loads((root / "runs" / "second" / "summary.json").read_text())["prepared"]["rays traced"] == 0
    complete = sorted((trial.value, trial.number) for trial in after if trial.state.name == "COMPLETE")
    trials = root / "runs" / "second" / "trials"
    kept = {kind: {int(path.parts[-3]) for path in trials.rglob(f"{kind}-*.json")} for kind in ("last", "best")}
    assert kept == {"last": set(), "best": {0, *(number for _, number in complete[:2])}}


@pytest.mark.slow
def test_a_driver_lost_with_its_disk_is_gone_on_with_from_the_last_copy(first, root, tmp_path):
    """kill -9, its own disk gone, and another machine's name in the lease: what the run's directory has is enough."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", OWN_DISK: str(tmp_path / "own")}
    process = subprocess.Popen(new_run(root, "lost"), stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[3/"):  # three trials have ended
            for pid in tree(process.pid):  # the whole machine
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            break
    process.stdout.read()
    assert process.wait(timeout=60) == -signal.SIGKILL
    run = RunDirectory(root / "runs" / "lost")
    copied = [trial.number for trial in read_trials(run) if trial.state in ("COMPLETE", "PRUNED")]
    assert len(copied) >= 2
    shutil.rmtree(tmp_path / "own")
    holder = json.loads(run.lease.read_text())
    run.lease.write_text(json.dumps(holder | {"host": "gone"}))
    os.utime(run.lease, (0, 0))

    going_on = command("--resume", "lost", "--out", root / "runs", "--cache", root / "cache")
    done = subprocess.run(going_on, capture_output=True, text=True, cwd=root, timeout=400, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = read_trials(run)
    assert len(trials) == TRIALS
    assert all(trial.state in ("COMPLETE", "PRUNED") for trial in trials)
    assert not run.lease.exists()
    assert list((tmp_path / "own").rglob("*.db")) == []


@pytest.mark.slow
def test_ctrl_c_while_a_search_renders_ends_it_in_order(tmp_path):
    others = ray_processes()
    large = ["data.grid=[60, 60]", "data.rays=65536", "data.held_out_rays=524288"]
    process = subprocess.Popen(new_run(tmp_path, "early", *large), stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if line.startswith("rendering PSFs"):
            process.send_signal(signal.SIGINT)
            break
    printed += process.stdout.read()
    assert process.wait(timeout=120) == 130, printed
    assert "--resume early" in printed
    wait_for_the_end(others)


@pytest.mark.slow
def test_ctrl_c_ends_a_rendering_with_its_actors_and_leaves_no_file(tmp_path):
    others = ray_processes()
    program = [str(Path(sys.executable).with_name("psf-search")), "render", "--lens", "cooke_triplet_50mm"]
    grid = ["--grid", "300x300", "--rays", "65536", "--actors", "1", "--out", str(tmp_path / "psfs.npz")]
    process = subprocess.Popen([*program, *grid], stderr=subprocess.DEVNULL)
    wait_until(lambda: any(".render" in title for pid, title in ray_processes().items() if pid not in others))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    wait_for_the_end(others)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_search_over_depths_and_focus_distances_trains_on_a_stream(tmp_path):
    pytest.importorskip("torch")
    from results import load_model

    data = ["data.depths_mm=[-10000, -2000]", "data.focus_mm=[-10000, -3000]", "data.stream={kernels: 512, reuse: 1}"]
    done = subprocess.run(
        new_run(tmp_path, "streamed", *data, trials=3), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    model = load_model(tmp_path / "runs" / "streamed" / "model")
    assert model.conditions == ("x", "y", "depth_mm", "focus_mm")
    assert model.psf([0.0, 0.5, -5000.0, -4000.0]).shape == (3, 15, 15)
    # How many come while so few steps are made is the machine's affair.
    for trial in study_of(tmp_path, "streamed").trials:
        assert trial.user_attrs["progress"]["metrics"]["train/fresh_share"] >= 0
