"""A run whose copy is in a bucket: what is there when, what is left of a lost machine, and one driver at a time."""

import json
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack, closing

import pytest

from results.records import read_trials
from results.run_directory import RunDirectory, RunError
from search.lease import Lease, TakenOver
from search.searcher import open_ledger
from search.storage import bucket_copy
from search.storage.bucket import Bucket, Changed
from search.storage.bucket_copy import BucketCopy
from search.storage.lease_object import LeaseObject
from search.storage.mirror import DamagedCopy, Mirror
from search.storage.place import Kept, Place
from search.study_disk import study_disk
from spaces.errors import SpaceError
from tests.search.small import PRESET, play, run_of, small

SPACE = small(sampler="random")


def ignore(line: str) -> None: ...


def ledger_on(url: str):
    return closing(open_ledger(url, "small", SPACE, SPACE.budget[PRESET]))


@pytest.fixture
def place(address):
    return Place.of_runs(address("runs"))


@pytest.fixture
def kept(place):
    """A new run of no trials, as its search finds it when it starts."""
    return Kept(run_of(place.path / "small", SPACE), place.free("small"))


def copy(kept: Kept) -> BucketCopy:
    assert kept.mirror is not None
    return BucketCopy(kept.directory, kept.mirror)


def copied_trials(kept: Kept, tmp_path) -> int:
    """Trials that another machine would find."""
    assert kept.mirror is not None
    mirror = Mirror(kept.mirror.bucket)
    if not mirror.read() or "study.db" not in mirror.files:
        return 0
    there = RunDirectory(tmp_path / "elsewhere" / "small")
    mirror.fetch(there.path)
    return len(read_trials(there))


def held_elsewhere(kept: Kept) -> None:
    """As a driver on another machine holds it."""
    assert kept.mirror is not None
    record = {"host": "elsewhere", "pid": 1, "token": "another", "study": "/gone/study.db"}
    kept.mirror.bucket.put("driver.json", json.dumps(record).encode())


def test_the_copy_is_whole_at_the_end_without_what_is_only_for_this_machine(kept, tmp_path):
    run = kept.directory
    for name in ("tune/a", "lanes/a", ".1.hidden", "trials/00000/checkpoints/.1.last-00000001.json"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("not this")
    with run.lock(), study_disk(copy(kept), ignore) as disk, ledger_on(disk.url) as ledger:
        play(ledger, SPACE, 2)
        (run.checkpoints(0)).mkdir(parents=True, exist_ok=True)
        (run.checkpoints(0) / "last-00000001.json").write_text("{}")
    mirror = Mirror(kept.mirror.bucket)
    mirror.read()
    assert {*mirror.files} == {"run.json", "study.db", "trials/00000/checkpoints/last-00000001.json"}
    assert copied_trials(kept, tmp_path) == 2
    assert mirror.bucket.names() == ["manifest.json", "objects"]  # the lease has been given back


def test_a_copy_says_that_its_run_has_ended_when_it_has_all_of_it(kept, monkeypatch):
    """However long its model takes to be copied."""
    model = kept.directory.model / "model.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"model")
    kept.directory.summary.write_text("{}")
    mirror, update = kept.mirror, copy(kept).update
    with monkeypatch.context() as patch:
        patch.setattr(bucket_copy, "RENEWED", 0.0)
        assert update(lambda: None)
        assert {"run.json"} <= mirror.files.keys() <= {"run.json", "study.db"}
    assert not update(lambda: None)
    assert {"summary.json", "model/model.safetensors"} <= mirror.files.keys()


def test_a_trials_end_brings_the_copy_up_to_date(kept, tmp_path):
    with study_disk(copy(kept), ignore) as disk, ledger_on(disk.url) as ledger:
        play(ledger, SPACE, 1)
        disk.trial_ended(0, "COMPLETE", 1, None, None)
        while copied_trials(kept, tmp_path) < 1:  # hangs if it never comes
            threading.Event().wait(0.01)
        play(ledger, SPACE, 1)
        assert copied_trials(kept, tmp_path) == 1


KILLED = """
import os, sys
from search.searcher import open_ledger
from search.storage.bucket_copy import BucketCopy
from search.storage.place import Place
from search.study_disk import study_disk
from tests.search.small import PRESET, play, run_of, small

place, space = Place.of_runs(sys.argv[1]), small(sampler="random")
run = run_of(place.path / "small", space)
with study_disk(BucketCopy(run, place.free("small")), print) as disk:
    ledger = open_ledger(disk.url, run.name, space, space.budget[PRESET])
    play(ledger, space, 2)
    disk.copy()
    play(ledger, space, 3)
    os._exit(1)
"""


@pytest.mark.parametrize(("lost", "trials"), [("driver", 5), ("machine", 2)])
def test_what_is_left_of_a_killed_driver(address, place, lost, trials):
    """Its own disk has all; the bucket has it up to the last copy."""
    done = subprocess.run([sys.executable, "-c", KILLED, address("runs")], check=False)
    assert done.returncode == 1
    if lost == "machine":
        shutil.rmtree(place.path)
    kept = place.find("small")
    with kept.directory.lock(), study_disk(copy(kept), ignore) as disk, ledger_on(disk.url) as ledger:
        assert len(ledger.trials) == trials
        play(ledger, SPACE, 1)
    shutil.rmtree(place.path)
    assert len(read_trials(place.find("small").directory)) == trials + 1


def test_a_directory_that_another_machine_has_gone_on_with_becomes_what_the_copy_is(kept, place):
    with study_disk(copy(kept), ignore) as disk, ledger_on(disk.url) as ledger:
        play(ledger, SPACE, 2)
    with ledger_on(kept.directory.storage_url) as ledger:  # what only this machine knows
        play(ledger, SPACE, 3)
    (kept.directory.path / "summary.json").write_text("{}")
    found = place.find("small").directory
    assert len(read_trials(found)) == 2
    assert not found.summary.exists()


def test_a_second_driver_is_refused(kept):
    lease = Lease(LeaseObject(kept.mirror.bucket), stale=4.0)
    held_elsewhere(kept)
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.2):
            held_elsewhere(kept)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(RunError, match="elsewhere") as error:
            lease.take(False, ignore)
    finally:
        over.set()
        thread.join()
    assert kept.mirror.url in str(error.value)


def test_a_driver_that_shows_no_sign_of_life_for_long_is_taken_for_dead(kept):
    held_elsewhere(kept)
    lines: list[str] = []
    previous = Lease(LeaseObject(kept.mirror.bucket), stale=1.0).take(False, lines.append)
    assert previous is not None
    assert previous.host == "elsewhere"


def test_of_two_drivers_that_take_a_run_at_once_one_gets_it(kept):
    """Both have read that nobody has it."""
    first, second = (LeaseObject(kept.mirror.bucket) for _ in range(2))
    second.read()
    assert Lease(first).take(False, ignore) is None

    class Late(LeaseObject):
        def read(self) -> bytes | None:
            return None

    with pytest.raises(RunError, match="another search"):
        Lease(Late(kept.mirror.bucket)).take(False, ignore)


def test_a_driver_that_wakes_too_late_writes_nothing_more(kept):
    """And says so at the end, too, when it asks its study no more."""
    held = ExitStack()
    disk = held.enter_context(study_disk(copy(kept), ignore))
    with ledger_on(disk.url) as ledger:
        disk.on_loss = ledger.halt
        play(ledger, SPACE, 1)
        disk.copy()
        held_elsewhere(kept)
        disk.trial_ended(0, "COMPLETE", 1, None, None)  # wakes what keeps it
        while ledger.failure is None:
            threading.Event().wait(0.01)
        with pytest.raises(TakenOver, match="elsewhere"):
            play(ledger, SPACE, 1)
        with pytest.raises(TakenOver):
            disk.copy()
        before = kept.mirror.bucket.get("manifest.json").modified
    with pytest.raises(TakenOver, match="elsewhere"):
        held.close()
    assert kept.mirror.bucket.get("manifest.json").modified == before
    assert b"elsewhere" in kept.mirror.bucket.get("driver.json").data


def test_a_run_that_another_search_has_gone_on_with_since_it_was_planned_is_refused(kept, place):
    with study_disk(copy(kept), ignore):
        pass
    planned = place.find("small")
    with study_disk(copy(place.find("small")), ignore) as disk, ledger_on(disk.url) as ledger:
        play(ledger, SPACE, 1)
    with pytest.raises(RunError, match="meanwhile"), study_disk(copy(planned), ignore):
        pass


def test_what_a_driver_has_sent_before_it_was_taken_over_is_refused(kept, place):
    """Else it would list objects that its successor has swept."""
    with study_disk(copy(kept), ignore):
        pass
    late = Mirror(kept.mirror.bucket)
    late.read()
    with study_disk(copy(place.find("small")), ignore), pytest.raises(Changed):
        late.publish(late.files)


def test_a_damaged_copy_is_refused_and_nothing_is_overwritten(kept, place):
    with study_disk(copy(kept), ignore) as disk, ledger_on(disk.url) as ledger:
        play(ledger, SPACE, 1)
    kept.mirror.bucket.put(f"objects/{kept.mirror.files['study.db'].sha256}", b"SQLite format 3\0")
    kept.directory.study_db.write_bytes(b"mine")
    with pytest.raises(DamagedCopy, match=r"study\.db is damaged"):
        place.find("small")
    assert kept.directory.study_db.read_bytes() == b"mine"


def test_runs_are_found_by_name_and_by_address(kept, place, address):
    with study_disk(copy(kept), ignore):
        pass
    shutil.rmtree(place.path)
    assert place.find("small").directory.record.exists()
    assert Place.of_runs("results/runs").find(address("runs/small")).directory == kept.directory
    for name, says in (("smal", "did you mean 'small'"), ("../small", "no such run")):
        with pytest.raises(SpaceError, match=says):
            place.find(name)
    with pytest.raises(SpaceError, match="--resume small"):
        place.free("small")
    with pytest.raises(SpaceError, match="there is no run"):
        Place.of_runs(str(Bucket.parse(address("nothing")))).find("small")
