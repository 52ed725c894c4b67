"""Searches whose one lane trains four trials at once: the same trials as one after another, also if it is killed or interrupted."""

import json
import re
import signal

import pytest

from tests.processes import kill, ray_processes, wait_for_the_end
from tests.search.test_kills import SETTINGS, left_over, reported, run, trials, wait_for
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

TOLERANCE = 0.02
"""Relative, of what a training reports in a pack and alone: float32 rounds otherwise in a batched product."""
TRIALS = 6
CHANGES = SETTINGS | {
    "sampler": "random",  # which suggests the same whatever is known
    "budget.quick.steps": 200,
    "search.hidden_dim.low": 16,
    "search.hidden_dim.recommended": 32,
    "search.hidden_dim.high": 32,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("pack")


def start(root, name, **more):
    settings = CHANGES | {"resources.pack": 4, "scheduler": "none"} | more
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return run(root, ["--space", "cvae_psf", "--preset", "quick", "--trials", str(TRIALS), "--name", name, *options])


def ended(root, process, code=0):
    assert process.wait(timeout=500) == code, (root / "printed").read_text()


def finals(root, name):
    """The errors of the finalists' trainings at the test set."""
    summary = json.loads((root / "runs" / name / "summary.json").read_text())
    return {
        (one["number"], training["seed"]): training["test"]
        for one in summary["final"]["finalists"]
        for training in one["trainings"]
    }


def log(root, name):
    return (root / "runs" / name / "logs" / "lane-0.log").read_text()


@pytest.fixture(scope="module")
def alone(root):
    """The same search without a pack: its trials, and its finals."""
    ended(root, start(root, "alone", **{"resources.pack": 1}))
    found = trials(root, "alone")
    assert [trial.state for trial in found] == ["COMPLETE"] * TRIALS
    assert {trial.lane for trial in found} == {"lane-0"}
    return found, finals(root, "alone")


def same(history):
    return [(step, pytest.approx(value, rel=TOLERANCE, abs=0)) for step, value in history]


def test_a_pack_that_is_interrupted_and_killed_ends_as_if_nothing_had_happened(root, alone):
    others = ray_processes()
    process = start(root, "packed")
    wait_for(process, lambda: reported(root, "packed", trial=1, reports=1), root)
    process.send_signal(signal.SIGINT)
    ended(root, process, code=130)
    wait_for_the_end(others)
    interrupted = [trial.number for trial in trials(root, "packed") if trial.state == "WAITING"]
    assert len(interrupted) > 1

    process = run(root, ["--resume", "packed"])
    wait_for(process, lambda: reported(root, "packed", trial=max(interrupted), reports=2), root)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not left_over(others, besides=("DashboardAgent", "RuntimeEnvAgent")))

    process = run(root, ["--resume", "packed"])
    wait_for(process, lambda: reported(root, "packed", trial=max(interrupted) + 1, reports=1), root)
    assert kill("TrainWorker"), (root / "printed").read_text()
    ended(root, process)
    there, judged = alone
    found = trials(root, "packed")
    assert [(trial.number, trial.state) for trial in found] == [(number, "COMPLETE") for number in range(TRIALS)]
    for one, other in zip(found, there, strict=True):
        assert one.params == other.params
        assert list(one.history) == same(other.history)
    assert finals(root, "packed") == pytest.approx(judged, rel=TOLERANCE, abs=0)
    assert {f"lane-0.{place}" for place in range(4)} == set(
        re.findall(r"INFO (\S+): trial \d+ taken", log(root, "packed"))
    )


def test_the_place_of_a_stopped_trial_is_the_next_ones(root, alone):
    ended(root, start(root, "stopping", scheduler="asha", **{"budget.quick.reduction_factor": 2}))
    found = trials(root, "stopping")
    assert [trial.number for trial in found] == list(range(TRIALS))
    assert {trial.state for trial in found} == {"COMPLETE", "PRUNED"}
    for one, other in zip(found, alone[0], strict=True):
        assert list(one.history) == same(other.history[: len(one.history)])
    said = log(root, "stopping")
    stopped = re.search(r"INFO (\S+): trial \d+ stopped\n", said)
    assert stopped is not None, said
    assert re.search(rf"INFO {stopped[1]}: trial \d+ taken", said[stopped.end() :])
