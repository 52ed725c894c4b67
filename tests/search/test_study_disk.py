"""A study on the driver's own disk: its copies, what is left when the driver or its machine is lost, and one driver at a time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from results.records import read_trials
from results.run_directory import RunDirectory, RunError
from search.lease import Lease, LeaseFile, TakenOver, process_space
from search.searcher import open_ledger
from search.storage.own_disk import OWN_DISK
from search.storage.run_copy import DirectoryCopy
from search.study_disk import study_disk
from tests.search.small import PRESET, play, run_of, small

SPACE = small(sampler="random")


@pytest.fixture
def run(tmp_path):
    return run_of(tmp_path / "shared" / "small", SPACE, trials=1)


@pytest.fixture
def own_disk(tmp_path, monkeypatch):
    """The disk of the driver's machine."""
    monkeypatch.setenv(OWN_DISK, str(tmp_path / "own"))
    return tmp_path / "own"


def ledger_on(url: str, run: RunDirectory):
    return closing(open_ledger(url, run.name, SPACE, SPACE.budget[PRESET]))


def ignore(line: str) -> None: ...


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def held_elsewhere(run: RunDirectory, ago: float, **by: object) -> None:
    """As a driver on another machine, or the one described, leaves it that showed signs of life until then."""
    holder = {"host": "elsewhere", "pid": 1, "token": "another", "study": "/gone/study.db"}
    run.lease.write_text(json.dumps(holder | by))
    then = time.time() - ago
    os.utime(run.lease, (then, then))


def test_a_study_is_in_the_runs_directory_where_that_is_on_a_disk_of_this_machine(run):
    with study_disk(DirectoryCopy(run), ignore) as disk:
        assert disk.path == run.study_db.resolve()
        with ledger_on(disk.url, run) as ledger:
            play(ledger, SPACE, 1)
            assert len(read_trials(run)) == 2
    assert not run.lease.exists()


def test_readers_see_the_last_copy_and_nothing_is_left_on_the_own_disk_at_the_end(run, own_disk):
    with study_disk(DirectoryCopy(run), ignore) as disk:
        assert disk.path.is_relative_to(own_disk)
        with ledger_on(disk.url, run) as ledger:
            play(ledger, SPACE, 2)
            assert len(read_trials(run)) == 1
            disk.copy()
            assert [trial.state for trial in read_trials(run)[1:]] == ["COMPLETE", "COMPLETE"]
            play(ledger, SPACE, 1)
    assert len(read_trials(run)) == 4
    assert files(own_disk) == []
    assert {name for name in files(run.path) if name.startswith("study")} == {"study.db"}


def test_a_trials_end_brings_the_copy_up_to_date(run, own_disk):
    with study_disk(DirectoryCopy(run), ignore) as disk, ledger_on(disk.url, run) as ledger:
        play(ledger, SPACE, 1)
        disk.trial_ended(1, "COMPLETE", 1, None, None)
        while len(read_trials(run)) < 2:  # hangs if it never comes
            threading.Event().wait(0.01)


KILLED = """
import os, sys
from pathlib import Path
from results.run_directory import RunDirectory
from search.searcher import open_ledger
from search.storage.run_copy import DirectoryCopy
from search.study_disk import study_disk
from tests.search.small import PRESET, play, small

run, space = RunDirectory(Path(sys.argv[1])), small(sampler="random")
with study_disk(DirectoryCopy(run), print) as disk:
    ledger = open_ledger(disk.url, run.name, space, space.budget[PRESET])
    play(ledger, space, 2)
    disk.copy()
    play(ledger, space, 3)
    os._exit(1)
"""


@pytest.mark.parametrize(("lost", "trials"), [("driver", 6), ("disk", 3), ("machine", 3)])
def test_what_is_left_of_a_killed_driver(run, own_disk, lost, trials):
    """Its own disk has all; the run's directory has it up to the last copy."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False)
    assert done.returncode == 1
    if lost == "disk":
        for path in own_disk.rglob("*.db*"):
            path.unlink()
    elif lost == "machine":
        held_elsewhere(run, ago=120)
    with study_disk(DirectoryCopy(run), ignore) as disk, ledger_on(disk.url, run) as ledger:
        assert len(ledger.trials) == trials
        play(ledger, SPACE, 1)
    assert len(read_trials(run)) == trials + 1
    assert files(own_disk) == []


@pytest.mark.slow
def test_a_driver_that_is_killed_before_it_has_a_working_copy_leaves_the_latest_one(run, own_disk, monkeypatch):
    """Wherever its own would have been."""
    subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False)
    monkeypatch.setenv(OWN_DISK, str(own_disk.parent / "other"))
    Lease(LeaseFile(run.lease)).take(True, ignore)
    with study_disk(DirectoryCopy(run), ignore) as disk, ledger_on(disk.url, run) as ledger:
        assert len(ledger.trials) == 6


@pytest.mark.slow
def test_an_old_working_copy_is_not_gone_on_with_after_another_machine_had_the_run(run, own_disk):
    """Not even if the driver is killed before it has removed it."""
    subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False)  # its own disk has more than the copy
    held_elsewhere(run, ago=120)
    Lease(LeaseFile(run.lease)).take(False, ignore)
    with study_disk(DirectoryCopy(run), ignore) as disk, ledger_on(disk.url, run) as ledger:
        assert len(ledger.trials) == 3


@pytest.mark.slow
def test_a_damaged_working_copy_is_not_gone_on_with(run, own_disk):
    subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False)
    (working,) = own_disk.rglob("study.db")
    working.write_bytes(b"SQLite format 3\0" + os.urandom(4096))
    lines: list[str] = []
    with study_disk(DirectoryCopy(run), lines.append) as disk, ledger_on(disk.url, run) as ledger:
        assert len(ledger.trials) == 3
    assert any(str(working) in line for line in lines)


@pytest.mark.slow
def test_a_run_moves_between_its_own_directory_and_another_disk(run, own_disk, monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED, str(run.path)], check=False)
    monkeypatch.delenv(OWN_DISK)
    with study_disk(DirectoryCopy(run), ignore) as disk, ledger_on(disk.url, run) as ledger:
        assert disk.path == run.study_db.resolve()
        assert len(ledger.trials) == 6
        play(ledger, SPACE, 1)
    monkeypatch.setenv(OWN_DISK, str(own_disk))
    with study_disk(DirectoryCopy(run), ignore) as disk, ledger_on(disk.url, run) as ledger:
        assert len(ledger.trials) == 7


@pytest.mark.parametrize("here", [False, True])
def test_a_driver_that_shows_signs_of_life_keeps_the_run(run, own_disk, here):
    """Also one on this machine, which may keep what it works on elsewhere than this one would."""
    by = {"host": socket.gethostname(), "pid": os.getppid(), "space": process_space()} if here else {}
    held_elsewhere(run, ago=0, **by)
    lease, over = Lease(LeaseFile(run.lease), stale=5.0), threading.Event()

    def live() -> None:
        while not over.wait(0.05):
            os.utime(run.lease)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(RunError, match=socket.gethostname() if here else "elsewhere"):
            lease.take(False, ignore)
    finally:
        over.set()
        thread.join()


def test_a_driver_that_shows_none_for_long_is_taken_for_dead(run):
    held_elsewhere(run, ago=0)
    lines: list[str] = []
    previous = Lease(LeaseFile(run.lease), stale=0.3).take(False, lines.append)
    assert previous is not None
    assert (previous.host, len(lines)) == ("elsewhere", 1)
    assert files(run.path) == ["driver.json", "run.json", "study.db"]


def test_a_driver_that_wakes_too_late_writes_nothing_more(run, own_disk):
    """And says so at the end, too, when it asks its study no more."""
    held = ExitStack()
    disk = held.enter_context(study_disk(DirectoryCopy(run), ignore))
    with ledger_on(disk.url, run) as ledger:
        disk.on_loss = ledger.halt
        play(ledger, SPACE, 1)
        disk.copy()
        before = run.study_db.read_bytes()
        held_elsewhere(run, ago=0)
        disk.trial_ended(1, "COMPLETE", 1, None, None)  # wakes what keeps it
        while ledger.failure is None:
            threading.Event().wait(0.01)
        with pytest.raises(TakenOver, match="elsewhere"):
            play(ledger, SPACE, 1)
        with pytest.raises(TakenOver):
            disk.copy()
        with pytest.raises(TakenOver):
            disk.check()
    with pytest.raises(TakenOver, match="elsewhere"):
        held.close()
    assert run.study_db.read_bytes() == before
    assert "elsewhere" in run.lease.read_text()
