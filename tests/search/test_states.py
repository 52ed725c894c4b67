"""Every end a trial can have, through a real Tune run on a real lane: one row in the study, with its reason."""

import math
import os
import signal
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

from results.records import read_trials
from results.run_directory import RunDirectory
from search.driver import TUNE_ENVIRONMENT, tune_trials
from search.limits import Limits
from search.observer import Observer
from search.searcher import open_ledger
from search.trial import TrialSettings
from spaces.loading import load
from tests.processes import kill
from tests.results.conftest import record_of
from trainables.lanes.lanes import Lanes
from trainables.lanes.task import Progress, TrialFailure

METRIC = "val/prior_rel_l2"
STEPS, EVERY = 40, 10
FATES = {
    0: "documents",
    1: "finishes",
    2: "poor",
    3: "nan",
    4: "infinite",
    5: "loss is not finite",
    6: "error",
    7: "out of memory once",
    8: "worker is killed once",
    9: "trial actor is killed once",
    10: "comes to a plateau",
}


@dataclass(frozen=True)
class FatefulTask:
    """A task whose course depends on the trial's number. What happens once leaves a mark in the trial's folder."""

    number: int
    directory: Path
    metric: str = METRIC

    def reports(self, worker):
        fate = FATES[self.number]
        mark = self.directory / "mark"
        mark.parent.mkdir(parents=True, exist_ok=True)
        first = not mark.exists()
        for step in range(EVERY, STEPS + 1, EVERY):
            if step > 2 * EVERY and fate.endswith("once") and first:
                mark.touch()
                if fate.startswith("out of memory"):
                    raise MemoryError("cannot allocate 9 GiB")
                if fate.startswith("worker"):
                    os.kill(os.getpid(), signal.SIGKILL)
                assert kill("ImplicitFunc")
            if step > EVERY and fate == "error":
                raise RuntimeError("no such thing")
            if step > EVERY and fate == "loss is not finite":
                raise TrialFailure(f"train/loss is nan by step {step}")
            value = 1.0 / step
            if fate == "documents":
                value = 0.9
            elif fate == "poor":
                value = 0.8
            elif step == 2 * EVERY and fate in ("nan", "infinite"):
                value = math.nan if fate == "nan" else math.inf
            elif fate == "comes to a plateau":
                value = 0.001
            last = step == (2 * EVERY if fate == "comes to a plateau" else STEPS)
            yield Progress(step, {METRIC: value, "val/kl": 1.0}, last)
            if last:
                return


class FatefulSettings(TrialSettings):
    def of_trial(self, number, params):
        return FatefulTask(number, self.directory.trial(number))


@pytest.fixture(scope="module")
def trials(ray_session, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    for name, value in TUNE_ENVIRONMENT.items():
        patch.setenv(name, value)
    # Everything that is not poor passes; the reference is poor, and is never stopped.
    changes = {
        "steps": STEPS,
        "grace_steps": EVERY,
        "reduction_factor": 2,
        "evaluate_every": EVERY,
        "trials": len(FATES),
    }
    space = load("cvae_psf", [*(f"budget.quick.{key}={value}" for key, value in changes.items()), "sampler=random"])
    budget = space.budget["quick"]
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "fates")
    run.create(record_of("fates"))
    with (
        Lanes(lanes=1, workers=1, cpus=1, gpus=0, storage=run.lanes) as lanes,
        closing(open_ledger(run.storage_url, run.name, space, budget)) as ledger,
    ):
        lanes.wait_ready()
        limits = Limits(budget, "min", ledger)
        tune_trials(FatefulSettings(space, budget, run, {}), ledger, lanes, Observer(), limits, trials=len(FATES))
    patch.undo()
    found = read_trials(run)
    assert [trial.number for trial in found] == list(FATES)  # one row each
    return {FATES[trial.number]: trial for trial in found}


def curve(value, steps=STEPS):
    return tuple((step, value(step)) for step in range(EVERY, steps + 1, EVERY))


def test_finished_is_complete_with_every_report(trials):
    trial = trials["finishes"]
    assert (trial.state, trial.value, trial.failure) == ("COMPLETE", 1 / STEPS, None)
    assert trial.history == curve(lambda step: 1 / step)
    assert trial.seconds > 0
    assert trial.metrics["val/kl"] == 1.0


def test_a_plateau_stands_for_the_reports_that_are_left(trials):
    trial = trials["comes to a plateau"]
    assert (trial.state, trial.value) == ("COMPLETE", 0.001)
    assert trial.history == curve(lambda step: 0.001)


def test_the_documents_values_are_never_stopped(trials):
    assert (trials["documents"].state, trials["documents"].step) == ("COMPLETE", STEPS)


def test_stopped_is_pruned_with_its_last_step_and_value_and_why(trials):
    trial = trials["poor"]
    assert (trial.state, trial.step, trial.value) == ("PRUNED", EVERY, 0.8)
    assert trial.decisions[-1].reason == "rank 2 of 3 at rung 10, 1 may go on"
    assert not trial.decisions[-1].go_on


@pytest.mark.parametrize(("fate", "value"), [("nan", "nan"), ("infinite", "inf")])
def test_a_value_that_is_not_finite_fails_at_once(trials, fate, value):
    trial = trials[fate]
    assert (trial.state, trial.failure) == ("FAIL", f"{METRIC} is {value} at step {2 * EVERY}")
    assert trial.history == curve(lambda step: 1 / step, EVERY)


def test_a_loss_that_is_not_finite_fails_without_a_retry(trials):
    assert (trials["loss is not finite"].state, trials["loss is not finite"].step) == ("FAIL", EVERY)
    assert trials["loss is not finite"].failure == f"train/loss is nan by step {2 * EVERY}"


def test_an_error_is_retried_and_then_fails_with_its_text(trials):
    assert trials["error"].state == "FAIL"
    assert trials["error"].failure == f"RuntimeError: no such thing (4 times, at step {EVERY})"
    assert trials["error"].history == curve(lambda step: 1 / step, EVERY)


@pytest.mark.parametrize("what", ["out of memory", "worker is killed", "trial actor is killed"])
def test_what_happens_once_costs_nothing_but_time(trials, what):
    trial = trials[f"{what} once"]
    assert (trial.state, trial.value, trial.failure) == ("COMPLETE", 1 / STEPS, None)
    assert trial.history == curve(lambda step: 1 / step)


def test_no_trial_is_left_running(trials):
    assert {trial.state for trial in trials.values()} == {"COMPLETE", "PRUNED", "FAIL"}
    assert optuna.trial.TrialState.RUNNING.name not in {trial.state for trial in trials.values()}
