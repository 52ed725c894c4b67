"""Which trials are judged at the end, with which trainings, and which of them may win."""

from dataclasses import replace

import pytest

from results.records import TrialRecord
from results.run_directory import RunDirectory
from search.finalists import candidates, train_finalists
from search.observer import Observer
from search.trial import TrialSettings
from tests.search.small import PRESET, small
from trainables.lanes.lanes import Lanes
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.training.checkpoints import Checkpoint, model_tensors, save_checkpoint


class Log(Observer):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def trial(number, value, state="COMPLETE"):
    return TrialRecord(
        number=number,
        state=state,
        params={},
        history=((10, value),) if value is not None else (),
        values=None,
        step=10,
        metrics={},
        seconds=1.0,
        lane="lane-0",
        failure=None,
        decisions=(),
        violation=0.0,
        recommended=number == 0,
        started=None,
        ended=None,
    )


def budget(**changes):
    return small().presets()[PRESET].model_copy(update=changes)


def judged(trials, **changes):
    found = candidates(trials, small(), budget(**changes))
    return [(one.trial.number, one.trainings, one.rival) for one in found]


def test_the_best_complete_trials_may_win_and_the_reference_is_compared_with():
    trials = [trial(0, 0.5), trial(1, 0.3), trial(2, 0.1, "PRUNED"), trial(3, 0.2), trial(4, 0.4)]
    assert judged(trials, finalists=2, finalist_seeds=2) == [
        (3, (0, 1), True),
        (1, (0, 1), True),
        (0, (None, 1), False),
    ]
    assert judged(trials, finalists=1, finalist_seeds=5) == [(3, (0, 1, 2, 3, 4), True), (0, (None, 1), False)]
    assert judged(trials, finalists=1, finalist_seeds=2, reference_seeds=1)[1] == (0, (None,), False)


def test_the_reference_may_win_if_it_is_among_the_best():
    assert judged([trial(0, 0.1), trial(1, 0.3)], finalists=2, finalist_seeds=1) == [
        (0, (None,), True),
        (1, (0,), True),
    ]


@pytest.mark.parametrize("others", [[], [trial(1, None, "FAIL"), trial(2, 0.1, "PRUNED")]])
def test_without_another_complete_trial_they_are_the_only_rival(others):
    assert judged([trial(0, 0.5), *others], finalists=3, finalist_seeds=1) == [(0, (None,), True)]


def test_without_finals_the_best_trial_is_judged_as_the_search_trained_it():
    assert judged([trial(0, 0.5), trial(1, 0.3)], finalists=0) == [(1, (None,), True), (0, (None,), False)]


@pytest.mark.parametrize("ended", [True, False])
def test_a_training_that_came_to_no_end_is_not_judged(tmp_path, ended):
    run, (one, *_) = RunDirectory(tmp_path), candidates([trial(0, 0.5), trial(1, 0.3)], small(), budget(finalists=1))
    model = CVAE(CvaeConfig(1, 5, {}, latent_dim=2, hidden_dim=4, num_layers=1, fourier_bands=0))
    checkpoint = Checkpoint(10, {}, 0.3, 10, "cvae_psf", model.config_dict, model_tensors(model))
    save_checkpoint(one.checkpoints(run, 0), "best", checkpoint)
    save_checkpoint(one.checkpoints(run, 0), "last", replace(checkpoint, ended=ended))
    assert (one.best(run, 0) is not None) == ended


def test_an_own_training_without_a_checkpoint_is_said_and_no_crash(tmp_path):
    study, log = small(), Log()
    settings = TrialSettings(study, budget(finalists=0), RunDirectory(tmp_path), {})
    found = candidates([trial(0, 0.5), trial(1, 0.3)], study, budget(finalists=0))
    lanes = Lanes(lanes=1, workers=1, cpus=1, gpus=0, storage=tmp_path)  # not started: nothing to train
    train_finalists(found, settings, lanes, log, lambda: None)
    assert [line.partition("; ")[2] for line in log.said] == [
        f"trial {number} is judged without it, if at all" for number in (1, 0)
    ]
