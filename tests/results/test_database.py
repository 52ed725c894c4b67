"""A study's database while another program holds its lock: a real process, which keeps it until it is told to let go."""

import subprocess
import sys

import pytest

from results import database
from results.records import read_trials
from results.run_directory import RunDirectory, RunError
from search.searcher import open_ledger
from tests.search.small import PRESET, run_of, small

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement)
print("held", flush=True)
sys.stdin.readline()
connection.close()
print("free", flush=True)
"""
WRITER = ["BEGIN IMMEDIATE"]
ALONE = ["PRAGMA locking_mode=EXCLUSIVE", "BEGIN IMMEDIATE", "CREATE TABLE other (x)", "COMMIT"]


class Holder:
    def __init__(self, path, statements):
        command = [sys.executable, "-c", HOLD, str(path), *statements]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def let_go(self):
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "free\n"


@pytest.fixture
def hold():
    holders = []

    def start(path, statements):
        holders.append(Holder(path, statements))
        return holders[-1]

    yield start
    for holder in holders:
        holder.process.communicate("\n")


@pytest.fixture
def run(tmp_path):
    return run_of(tmp_path / "small", small(sampler="random"), trials=1)


def ledger_of(run: RunDirectory, said):
    space = small(sampler="random")
    return open_ledger(run.storage_url, run.name, space, space.budget[PRESET], said=said)


def test_a_search_waits_for_another_writer_says_so_once_and_goes_on(run, hold):
    lines: list[str] = []
    holders: list[Holder] = []

    def said(line):
        lines.append(line)
        holders[-1].let_go()

    ledger = ledger_of(run, said)
    number, _ = ledger.ask()
    for step in (200, 400):
        holders.append(hold(run.study_db, WRITER))
        ledger.report(number, step, 1 / step)
    ledger.report(number, 600, 0.1)  # nobody is in its way
    assert read_trials(run)[number].history == ((200, 1 / 200), (400, 1 / 400), (600, 0.1))
    assert [
        str(run.study_db) in line and str(one.process.pid) in line for line, one in zip(lines, holders, strict=True)
    ]
    ledger.close()


@pytest.mark.parametrize("statements", [WRITER, ALONE], ids=["writer", "alone"])
def test_what_holds_it_up_for_too_long_is_named_and_waited_for_once(run, hold, monkeypatch, statements):
    monkeypatch.setattr(database, "TRIES", 2)
    said: list[str] = []
    ledger = ledger_of(run, said.append)
    number, _ = ledger.ask()
    ledger._storage.engine.dispose()  # a connection that has read would keep the second kind out
    holder = hold(run.study_db, statements)
    for _ in range(2):
        with pytest.raises(RunError, match=f"{run.study_db}: locked .* process {holder.process.pid} ") as caught:
            ledger.report(number, 200, 0.5)
    assert caught.value is ledger.failure
    ledger.close()
    assert len(said) == 1
    holder.let_go()
    again = ledger_of(run, said.append)
    assert again.ask()[0] == number  # it waited
    again.close()


def test_a_reader_waits_too(run, hold, monkeypatch):
    monkeypatch.setattr(database, "TRIES", 2)
    holder = hold(run.study_db, ALONE)
    with pytest.raises(RunError, match=f"locked .* process {holder.process.pid} "):
        read_trials(run)
    holder.let_go()
    assert len(read_trials(run)) == 1
