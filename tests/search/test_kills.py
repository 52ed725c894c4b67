"""kill -9 of the driver, of a training worker and of a trial's actor: the search ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from results.records import read_trials
from results.run_directory import RunDirectory, RunError
from tests.processes import kill, ray_processes
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, str(Path(__file__).parents[2] / "search" / "run.py")]
STEPS, EVERY, TRIALS = 600, 50, 13
SETTINGS = {
    "resources.lanes": 1,
    "resources.cpus_per_worker": 1,  # threads of tests beside it would wait for each other
    "budget.quick.steps": STEPS,
    "budget.quick.grace_steps": EVERY,
    "budget.quick.evaluate_every": EVERY,
    "budget.quick.finalists": 1,
    "budget.quick.finalist_seeds": 2,
    "data.grid": [4, 4],
    "data.rays": 128,
    "data.held_out_rays": 1024,
    "data.validation_points": 6,
    "data.test_points": 6,
    "search.hidden_dim.low": 32,
    "search.hidden_dim.recommended": 64,
    "search.hidden_dim.high": 64,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


def start(root, name):
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    options = ["--space", "cvae_psf", "--preset", "quick", "--trials", str(TRIALS), "--name", name, *settings]
    return run(root, options)


def run(root, options):
    log = (root / "printed").open("a")
    places = ["--out", str(root / "runs"), "--cache", str(root / "cache")]
    return subprocess.Popen([*PROGRAM, *options, *places], stdout=log, stderr=log, cwd=root)


def trials(root, name):
    """What the study says so far, while the search runs or after it was killed."""
    try:
        return read_trials(RunDirectory(root / "runs" / name))
    except RunError:
        return []  # not begun


def reported(root, name, trial, reports):
    """Whether a trial has made so many reports."""
    found = trials(root, name)
    return len(found) > trial and len(found[trial].history) >= reports


def wait_for(process, moment, root):
    """Return at that moment of a running search."""
    wait_until(lambda: moment() or process.poll() is not None, seconds=300)
    assert process.poll() is None, (root / "printed").read_text()


def left_over(others, besides=()):
    """Ray's processes that have outlived their driver."""
    there = {pid: title for pid, title in ray_processes().items() if pid not in others}
    return [title for title in there.values() if not any(name in title for name in besides)]


def outcome(root, name):
    """All that must be equal: every trial's parameters, reports, end and decisions, and the finalists' scores."""
    rows = [(t.number, t.params, t.state, t.history, t.values, t.decisions) for t in trials(root, name)]
    summary = json.loads((root / "runs" / name / "summary.json").read_text())
    finalists = [(one["number"], one["trainings"]) for one in summary["final"]["finalists"]]
    return rows, finalists, summary["final"]["winner"], summary["test"]


@pytest.fixture(scope="module")
def undisturbed(root):
    process = start(root, "undisturbed")
    assert process.wait(timeout=400) == 0, (root / "printed").read_text()
    found = outcome(root, "undisturbed")
    states = [row[2] for row in found[0]]
    assert len(states) == TRIALS
    assert {"COMPLETE", "PRUNED"} == set(states)
    return found


def test_a_driver_killed_three_times_is_resumed_to_the_same_end(root, undisturbed):
    others = ray_processes()
    finals = root / "runs" / "driver" / "finalists"
    moments = (
        lambda: reported(root, "driver", trial=0, reports=3),  # inside the first trial
        lambda: reported(root, "driver", trial=8, reports=1),  # at a rung, after decisions
        lambda: any(finals.glob("*/checkpoints/*.json")),  # in the finals
    )
    process = start(root, "driver")
    for moment in moments:
        wait_for(process, moment, root)
        before = {trial.number: trial.history for trial in trials(root, "driver")}
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not left_over(others, besides=("DashboardAgent", "RuntimeEnvAgent")))
        after = {trial.number: trial.history for trial in trials(root, "driver")}
        assert all(after[number][: len(history)] == history for number, history in before.items())
        process = run(root, ["--resume", "driver"])
    assert process.wait(timeout=400) == 0, (root / "printed").read_text()
    assert outcome(root, "driver") == undisturbed
    wait_until(lambda: not left_over(others))  # Ray's agents look for their parent once in a while


@pytest.mark.parametrize("what", ["TrainWorker", "ImplicitFunc"])
def test_killed_workers_and_trial_actors_change_nothing(root, undisturbed, what):
    """Three times in one search: early and late in a trial, and in another one."""
    name = what.lower()
    process = start(root, name)
    for trial, reports in ((0, 2), (0, 8), (1, 3)):
        wait_for(process, lambda at=(trial, reports): reported(root, name, *at), root)
        assert kill(what), (root / "printed").read_text()
    assert process.wait(timeout=400) == 0, (root / "printed").read_text()
    assert outcome(root, name) == undisturbed
