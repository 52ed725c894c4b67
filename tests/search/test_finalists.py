"""Which trials are judged at the end, with which trainings, and which of them may win."""

import pytest

from results.records import TrialRecord
from results.run_directory import RunDirectory
from search.finalists import candidates, train_finalists
from search.trial import TrialSettings
from tests.search.small import small
from trainables.lane import training
from trainables.lanes import Lanes


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


def judged(trials, **budget):
    study = small()
    found = candidates(trials, study, next(iter(study.presets().values())).model_copy(update=budget))
    return [(one.trial.number, one.trainings, one.rival) for one in found]


def test_the_best_complete_trials_may_win_and_the_documents_values_are_compared_with():
    trials = [trial(0, 0.5), trial(1, 0.3), trial(2, 0.1, "PRUNED"), trial(3, 0.2), trial(4, 0.4)]
    assert judged(trials, finalists=2, finalist_seeds=2) == [
        (3, (0, 1), True),
        (1, (0, 1), True),
        (0, (None, 1), False),
    ]


def test_the_documents_values_may_win_if_they_are_among_the_best():
    assert judged([trial(0, 0.1), trial(1, 0.3)], finalists=2, finalist_seeds=1) == [
        (0, (None,), True),
        (1, (0,), True),
    ]


@pytest.mark.parametrize("others", [[], [trial(1, None, "FAIL"), trial(2, 0.1, "PRUNED")]])
def test_without_another_complete_trial_they_are_the_only_rival(others):
    assert judged([trial(0, 0.5), *others], finalists=3, finalist_seeds=1) == [(0, (None,), True)]


def test_without_finals_the_best_trial_is_judged_as_the_search_trained_it():
    assert judged([trial(0, 0.5), trial(1, 0.3)], finalists=0) == [(1, (None,), True), (0, (None,), False)]


def test_an_own_training_without_a_checkpoint_is_said_and_no_crash(tmp_path):
    study, said = small(), list[str]()
    budget = study.budget["quick"].model_copy(update={"finalists": 0})
    settings = TrialSettings(study, budget, RunDirectory(tmp_path), {})
    found = candidates([trial(0, 0.5), trial(1, 0.3)], study, budget)
    lanes = Lanes(training, lanes=1, workers=1, cpus=1, gpus=0, storage=tmp_path)  # not started: nothing to train
    train_finalists(found, settings, lanes, said.append)
    assert [line.partition("; ")[2] for line in said] == [
        f"trial {number} is judged without it, if at all" for number in (1, 0)
    ]
