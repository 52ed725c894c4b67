"""Whole searches on machines that are in their way: another program, no memory, no space, no home, no time."""

import subprocess
from contextlib import contextmanager

import pytest

from results.records import read_trials
from results.run_directory import RunDirectory
from tests.results.test_database import WRITER, Holder
from tests.search.test_search import TRIALS, command, new_run

pytestmark = pytest.mark.slow


@contextmanager
def search(root, arguments, **options):
    """A search as a process; killed if the test has not waited for its end."""
    with (root / "errors").open("w") as errors:
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=root, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def printed_until(process, text):
    """All that it prints up to a line with that text."""
    printed = ""
    for line in process.stdout:
        printed += line
        if text in line:
            return printed
    raise AssertionError(printed)


def resumed(root, name):
    return command("--resume", name, "--out", root / "runs", "--cache", root / "cache")


def states(root, name):
    return [trial.state for trial in read_trials(RunDirectory(root / "runs" / name))]


def test_another_program_with_the_studys_lock_is_waited_for_and_then_named(tmp_path):
    study = tmp_path / "runs" / "locked" / "study.db"
    with search(tmp_path, new_run(tmp_path, "locked")) as process:
        printed_until(process, "[1/")
        holder = Holder(study, WRITER)
        printed_until(process, f"{study}: locked by process {holder.process.pid}")
        holder.let_go()
        printed_until(process, "[2/")
        holder = Holder(study, WRITER)
        rest = process.stdout.read()  # for a minute
        assert process.wait() == 1
        assert "--resume locked" in rest
        (error,) = (tmp_path / "errors").read_text().splitlines()
        assert f"{study}: locked" in error
        assert str(holder.process.pid) in error
        holder.let_go()
    assert len(states(tmp_path, "locked")) < TRIALS
    done = subprocess.run(resumed(tmp_path, "locked"), capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(states(tmp_path, "locked")) == TRIALS
