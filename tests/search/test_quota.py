"""The quota of disk space for checkpoints, on real files: what is deleted, in which order, and what never is."""

import shutil
from contextlib import closing

import pytest
import torch
from optuna.trial import TrialState

from results.records import read_trials
from results.run_directory import RunDirectory
from search.finalists import candidates
from search.ledger import Ledger
from search.observer import Observer, Observers
from search.quota import GB, Quota
from search.searcher import ask, open_ledger
from search.trial import TrialSettings
from tests.results.conftest import record_of
from tests.search.small import METRIC, PRESET, RUNGS, STEPS, small
from tests.trainables.psf.synthetic import newest
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.training.checkpoints import (
    Checkpoint,
    load_checkpoint,
    model_tensors,
    save_checkpoint,
)
from trainables.training.stored import stored_checkpoints

CONFIG = CvaeConfig(1, 5, {}, latent_dim=3, hidden_dim=8, num_layers=1, fourier_bands=1)
FINALISTS = 2


class Search:
    """A run whose trials leave two checkpoints of each kind, without Tune and lanes."""

    def __init__(self, directory: RunDirectory) -> None:
        self.space = small(sampler="random")
        self.budget = self.space.budget[PRESET].model_copy(update={"finalists": FINALISTS})
        self.directory = directory
        if not directory.record.exists():
            directory.create(record_of(directory.name))
        self.ledger: Ledger = open_ledger(directory.storage_url, directory.name, self.space, self.budget)
        self.said: list[str] = []

    def start(self, best: float | None = None) -> int:
        """A trial that runs, and has reported if it is told what."""
        number, _ = self.ledger.ask(lambda trial: ask(trial, self.space))
        if best is not None:
            self.save(number, best)
        return number

    def save(self, number: int, best: float) -> None:
        for step, value in zip(RUNGS, (2 * best, best), strict=True):
            self.ledger.report(number, step, value)
            write(self.directory, number, step, value)
        self.ledger.note(number, progress={"step": RUNGS[-1], "metrics": {METRIC: best}})

    def end(self, number: int, state: str, best: float | None = None) -> int:
        self.ledger.tell(number, TrialState[state], [best] if state == "COMPLETE" and best is not None else None)
        return number

    def trial(self, state: str, best: float) -> int:
        return self.end(self.start(best), state, best)

    def quota(self, gigabytes: float) -> Quota:
        resources = self.space.resources.model_copy(update={"checkpoints_gb": gigabytes})
        study = self.space.model_copy(update={"resources": resources})
        return Quota(TrialSettings(study, self.budget, self.directory, {}), self.ledger, self.said.append)


def write(directory, number, step, value):
    torch.manual_seed(number)
    checkpoint = Checkpoint(step, {METRIC: value}, value, step, CONFIG, model_tensors(CVAE(CONFIG)))
    save_checkpoint(directory.checkpoints(number), "last", checkpoint)
    save_checkpoint(directory.checkpoints(number), "best", checkpoint)


def size(directory):
    return sum(path.stat().st_size for path in directory.path.rglob("*-????????.*"))


def there(directory):
    """(trial, kind, step) of every checkpoint."""
    return {
        (int(folder.name), one.kind, one.step)
        for folder in directory.trials.iterdir()
        for one in stored_checkpoints(folder / "checkpoints")
    }


@pytest.fixture
def search(tmp_path):
    one = Search(RunDirectory(tmp_path / "run"))
    with closing(one.ledger):
        yield one


def test_within_the_quota_nothing_is_deleted(search):
    for best in (0.5, 0.4, 0.3, 0.2):
        search.trial("COMPLETE", best)
    before = there(search.directory)
    search.quota(size(search.directory) / GB).enforce()
    assert there(search.directory) == before
    assert len(before) == 4 * 4
    assert search.said == []


def test_the_order_of_deletion(search):
    documents, slow = search.trial("COMPLETE", 0.9), search.start(0.5)
    good, failed, better = search.trial("COMPLETE", 0.2), search.trial("FAIL", 0.15), search.trial("COMPLETE", 0.1)
    middling, stopped = search.trial("COMPLETE", 0.3), search.trial("PRUNED", 0.4)
    search.end(slow, "PRUNED")  # the last one to end
    running = search.start(0.6)
    of = search.directory
    write(search.directory, 99, RUNGS[0], 0.1)
    of.finalist(better, 0).parent.mkdir()
    of.trial(99).rename(of.finalist(better, 0))
    first, second = RUNGS
    everything, deleted = there(of), []
    while True:
        before = there(of)
        search.quota((size(of) - 1) / GB).enforce()  # each time one has to go
        if not (gone := before - there(of)):
            break
        assert len(gone) == 1
        deleted += gone
    oldest_first = (failed, middling, stopped, slow)
    assert deleted == [
        *((number, "last", step) for number in oldest_first for step in (first, second)),
        *((number, "best", first) for number in oldest_first),
        *((number, "best", second) for number in (failed, slow, stopped, middling)),
    ]
    assert {number for number, _, _ in everything - set(deleted)} == {documents, good, better, running}
    assert len(stored_checkpoints(of.finalist(better, 0) / "checkpoints")) == 2
    assert len(search.said) == 1
    assert "resources.checkpoints_gb=" in search.said[0]


def test_it_holds_while_trials_end_and_says_once_when_it_cannot(search):
    search.trial("COMPLETE", 0.9)
    quota = search.quota(3.5 * size(search.directory) / GB)
    observers = Observers(Observer(), quota)
    for best in (0.5, 0.4, 0.3, 0.35):
        number = search.trial("COMPLETE", best)
        observers.trial_ended(number, "COMPLETE", STEPS, best, None)
        assert size(search.directory) <= GB * quota._limit
    assert {number for number, _, _ in there(search.directory)} >= {0, 3, 4}
    assert search.said == []
    running = [search.start(0.6), search.start(0.6)]
    for _ in range(2):
        number = search.trial("PRUNED", 0.7)
        observers.trial_ended(number, "PRUNED", RUNGS[-1], 0.7, None)
    assert {number for number, _, _ in there(search.directory)} == {0, 3, 4, *running}
    assert len(search.said) == 1


def test_folders_of_settled_trials_are_not_read_again(search):
    for best in (0.9, 0.5):
        search.trial("COMPLETE", best)
    quota = search.quota(1)
    shutil.rmtree(search.directory.checkpoints(1))
    search.directory.checkpoints(1).touch()
    quota.trial_ended(search.trial("PRUNED", 0.7), "PRUNED", RUNGS[-1], 0.7, None)
    assert search.said == []
    search.quota(1)
    assert "Not a directory" in search.said[0]


def test_a_run_is_resumed_and_extended_after_deletions(search):
    for best in (0.9, 0.5, 0.4, 0.3):
        search.trial("COMPLETE", best)
    interrupted = search.start(0.6)
    search.ledger.close()
    search.quota(1e-9).enforce()

    again = Search(search.directory)
    with closing(again.ledger):
        quota = again.quota(1e-9)
        quota.enforce()
        assert load_checkpoint(again.directory.checkpoints(1), "best") is None
        assert again.start() == interrupted
        assert newest(again.directory.checkpoints(interrupted)).step == RUNGS[-1]
        again.ledger.report(interrupted, STEPS, 0.1)
        again.end(interrupted, "COMPLETE", 0.1)
        quota.trial_ended(interrupted, "COMPLETE", STEPS, 0.1, None)
        for best in (0.7, 0.05):
            quota.trial_ended(again.trial("COMPLETE", best), "COMPLETE", STEPS, best, None)
    assert {number for number, _, _ in there(again.directory)} == {0, interrupted, 6}
    found = candidates(read_trials(again.directory), again.space, again.budget)
    assert [one.trial.number for one in found] == [6, interrupted, 0]
    assert all(one.best(again.directory, None) is not None for one in found)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_is_kept_even_without_finals(search, mode):
    search.space = small(sampler="random", objective={"metric": "val/kl", "mode": mode})
    search.budget = search.budget.model_copy(update={"finalists": 0})
    for best in (0.3, 0.5, 0.2, 0.4):
        search.trial("COMPLETE", best)
    search.quota(1e-9).enforce()
    assert {number for number, _, _ in there(search.directory)} == {0, 2 if mode == "min" else 1}


def test_what_cannot_be_deleted_or_read_is_said_and_the_rest_goes_on(search):
    for best in (0.9, 0.1, 0.2, 0.5, 0.4, 0.3):
        search.trial("COMPLETE", best)
    stuck, unreadable = (search.directory.checkpoints(number) for number in (3, 4))
    tensors = stuck / f"last-{RUNGS[0]:08d}.safetensors"
    tensors.unlink()
    tensors.mkdir()  # cannot be unlinked
    shutil.rmtree(unreadable)
    unreadable.touch()
    quota = search.quota(1e-9)
    for _ in range(2):
        quota.enforce()
    assert not tensors.with_suffix(".json").exists()  # first, so that no broken checkpoint is left
    assert [path.name for path in stuck.iterdir()] == [tensors.name]
    assert stored_checkpoints(search.directory.checkpoints(5)) == []
    assert len(search.said) == 3
    assert f"warning: {unreadable}: cannot be read: Not a directory" in search.said[0]
    assert f"warning: {stuck}: a checkpoint cannot be deleted: Is a directory" in search.said[1]


def test_what_a_killed_writer_left_goes_before_a_best_one(search):
    for best in (0.9, 0.1, 0.2, 0.5):
        search.trial("COMPLETE", best)
    folder = search.directory.checkpoints(3)
    (folder / f".best-{STEPS:08d}.safetensors.123").write_bytes(b"half")
    (folder / f"best-{STEPS:08d}.safetensors").write_bytes(b"whole, but its JSON was never written")
    needless = sum(one.bytes for one in stored_checkpoints(folder) if one.kind == "last" or not one.complete)
    search.quota((size(search.directory) - needless) / GB).enforce()
    assert [(one.kind, one.step) for one in stored_checkpoints(folder)] == [("best", step) for step in RUNGS]


def test_a_lane_may_still_write_after_its_trial_was_stopped(search):
    """What it has not finished is no debris, and what it writes then is counted."""
    quota = search.quota(0)
    search.trial("COMPLETE", 0.9)
    number = search.end(search.start(), "PRUNED")
    folder = search.directory.checkpoints(number)
    folder.mkdir(parents=True)
    unfinished = folder / f"best-{RUNGS[0]:08d}.safetensors"
    unfinished.write_bytes(b"tensors")
    quota.trial_ended(number, "PRUNED", RUNGS[0], 0.5, None)
    assert unfinished.exists()
    write(search.directory, number, RUNGS[0], 0.5)
    quota.enforce()
    assert stored_checkpoints(folder) == []
