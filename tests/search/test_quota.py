"""Which checkpoints stay, on real files."""

import shutil
import time
from contextlib import closing

import pytest
import torch
from optuna.trial import TrialState

from results.records import read_trials
from results.run_directory import RunDirectory
from search.finalists import candidates
from search.ledger import Ledger
from search.observer import Observer, Observers
from search.quota import SETTLING, Quota
from search.searcher import open_ledger
from search.trial import TrialSettings
from tests.results.conftest import record_of
from tests.search.small import METRIC, PRESET, RUNGS, STEPS, small
from trainables.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from trainables.training.stored import stored_checkpoints

FINALISTS = 2


class Search:
    """A run whose trials leave two checkpoints of each kind, without Tune and lanes."""

    def __init__(self, directory: RunDirectory, finalists: int = FINALISTS, **changes) -> None:
        self.space = small(sampler="random", **changes)
        self.budget = self.space.budget[PRESET].model_copy(update={"finalists": finalists})
        self.directory = directory
        if not directory.record.exists():
            directory.create(record_of(directory.name))
        self.ledger: Ledger = open_ledger(directory.storage_url, directory.name, self.space, self.budget)
        self.said: list[str] = []
        self.quota = self.another_quota()

    def another_quota(self) -> Quota:
        return Quota(TrialSettings(self.space, self.budget, self.directory, {}), self.ledger, self.said.append)

    def start(self, best: float) -> int:
        """A trial that runs and has reported."""
        number, _ = self.ledger.ask()
        for step, value in zip(RUNGS, (2 * best, best), strict=True):
            self.ledger.report(number, step, value)
            write(self.directory, number, step)
        self.ledger.note(number, progress={"step": RUNGS[-1], "metrics": {METRIC: best}})
        return number

    def end(self, number: int, state: str, best: float | None = None) -> int:
        self.ledger.tell(number, TrialState[state], [best] if state == "COMPLETE" and best is not None else None)
        Observers(Observer(), self.quota).trial_ended(number, state, STEPS, best, None)
        return number

    def trial(self, state: str, best: float) -> int:
        return self.end(self.start(best), state, best)


def write(directory, number, step):
    checkpoint = Checkpoint(step, {}, 0.0, step, "cvae_psf", {}, {"weights": torch.zeros(1)})
    save_checkpoint(directory.checkpoints(number), "last", checkpoint)
    save_checkpoint(directory.checkpoints(number), "best", checkpoint)


def there(directory):
    """Which kinds of complete checkpoints each trial has."""
    found = {
        int(folder.name): {one.kind for one in stored_checkpoints(folder / "checkpoints") if one.complete}
        for folder in directory.trials.iterdir()
    }
    return {number: kinds for number, kinds in found.items() if kinds}


@pytest.fixture
def later(monkeypatch):
    """Let the lanes' time after a trial's end pass."""
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + SETTLING + 1)


@pytest.fixture
def search(tmp_path):
    one = Search(RunDirectory(tmp_path / "run"))
    with closing(one.ledger):
        yield one


def test_only_the_best_and_trial_0_keep_their_best_model(search):
    for state, best in (("COMPLETE", 0.9), ("COMPLETE", 0.2), ("FAIL", 0.05), ("COMPLETE", 0.3), ("PRUNED", 0.01)):
        search.trial(state, best)
    assert there(search.directory) == {0: {"best"}, 1: {"best"}, 3: {"best"}}
    search.trial("COMPLETE", 0.1)
    assert there(search.directory) == {0: {"best"}, 1: {"best"}, 5: {"best"}}
    assert len(stored_checkpoints(search.directory.checkpoints(5))) == 2  # the older one, should the newer be damaged
    assert search.said == []


def test_running_trials_and_finalists_keep_all_they_have(search):
    running = [search.start(0.9), search.start(0.8)]
    ended = search.trial("COMPLETE", 0.1)
    shutil.copytree(search.directory.trial(running[0]), search.directory.finalist(ended, 0))
    search.quota.enforce()
    assert there(search.directory) == {0: {"last", "best"}, 1: {"last", "best"}, 2: {"best"}}
    assert len(stored_checkpoints(search.directory.finalist(ended, 0) / "checkpoints")) == 4


def test_an_interrupted_trial_goes_on_from_its_last_checkpoint(search):
    for best in (0.9, 0.5, 0.4, 0.3):
        search.trial("COMPLETE", best)
    interrupted = search.start(0.6)
    search.ledger.close()

    again = Search(search.directory)
    with closing(again.ledger):
        again.quota.enforce()
        assert again.ledger.ask()[0] == interrupted
        last = load_checkpoint(again.directory.checkpoints(interrupted), "last")
        assert last is not None
        assert last.step == RUNGS[-1]
        again.ledger.report(interrupted, STEPS, 0.1)
        again.end(interrupted, "COMPLETE", 0.1)
        again.trial("COMPLETE", 0.05)
    assert there(again.directory) == {0: {"best"}, interrupted: {"best"}, 5: {"best"}}
    found = candidates(read_trials(again.directory), again.space, again.budget)
    assert [one.trial.number for one in found] == [5, interrupted, 0]
    assert all(one.best(again.directory, None) is not None for one in found)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_is_kept_even_without_finals(tmp_path, mode):
    objective = {"metric": METRIC if mode == "min" else "val/prior_psnr", "mode": mode}
    search = Search(RunDirectory(tmp_path / "run"), finalists=0, objective=objective)
    with closing(search.ledger):
        for best in (0.3, 0.5, 0.2, 0.4):
            search.trial("COMPLETE", best)
        assert there(search.directory) == {0: {"best"}, 2 if mode == "min" else 1: {"best"}}


def test_a_lane_may_still_write_after_its_trial_was_stopped(search, later):
    """What it has not finished is no debris, and what it writes then goes at the next trial's end."""
    search.trial("COMPLETE", 0.9)
    stopped = search.trial("PRUNED", 0.5)
    folder = search.directory.checkpoints(stopped)
    unfinished = folder / f"best-{RUNGS[0]:08d}.safetensors"
    unfinished.write_bytes(b"tensors")
    search.quota._watched[stopped] = time.monotonic() + 1
    search.quota.enforce()
    assert unfinished.exists()
    write(search.directory, stopped, RUNGS[0])
    search.trial("COMPLETE", 0.8)
    assert stored_checkpoints(folder) == []


def test_what_a_killed_writer_left_goes_once_nobody_writes(search):
    search.trial("COMPLETE", 0.9)
    folder = search.directory.checkpoints(0)
    (folder / f".123.best-{STEPS:08d}.safetensors").write_bytes(b"half")
    (folder / f"best-{STEPS:08d}.safetensors").write_bytes(b"whole, but its JSON was never written")
    search.quota.enforce()
    assert len(list(folder.iterdir())) == 2 * 2 + 2
    search.another_quota().enforce()  # that of a resumed run
    assert {path.stem for path in folder.iterdir()} == {f"best-{step:08d}" for step in RUNGS}


def test_folders_of_settled_trials_are_not_read_again(search):
    for best in (0.9, 0.1, 0.2, 0.5):
        search.trial("COMPLETE", best)
    resumed = search.another_quota()
    resumed.enforce()
    shutil.rmtree(search.directory.checkpoints(3))
    search.directory.checkpoints(3).touch()
    resumed.enforce()
    assert search.said == []
    search.another_quota().enforce()
    assert "Not a directory" in search.said[0]


def test_what_cannot_be_deleted_or_read_is_said_once_and_the_rest_goes_on(search):
    for best in (0.9, 0.1, 0.2):
        search.trial("COMPLETE", best)
    stuck, unreadable, other = (search.start(best) for best in (0.5, 0.4, 0.3))
    stuck_at = search.directory.checkpoints(stuck)
    tensors = stuck_at / f"last-{RUNGS[0]:08d}.safetensors"
    tensors.unlink()
    tensors.mkdir()  # cannot be unlinked
    shutil.rmtree(search.directory.checkpoints(unreadable))
    search.directory.checkpoints(unreadable).touch()
    for number in (stuck, unreadable, other):
        search.end(number, "PRUNED")
    assert not tensors.with_suffix(".json").exists()  # first, so that no broken checkpoint is left
    assert [path.name for path in stuck_at.iterdir()] == [tensors.name]
    assert stored_checkpoints(search.directory.checkpoints(other)) == []
    assert len(search.said) == 2
    assert search.said[0] == f"warning: {stuck_at}: a checkpoint cannot be deleted: Is a directory"
    assert search.said[1].startswith(
        f"warning: {search.directory.checkpoints(unreadable)}: cannot be read: Not a directory"
    )
