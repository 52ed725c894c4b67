"""A run's directory: names, finding, records, atomic writing, and the lock."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from results.run_directory import RunDirectory, RunError, default_name, find, runs, validate_name
from spaces.errors import SpaceError
from tests.results.conftest import RunMaker, record_of, summary_of


def test_record_and_summary_come_back_as_written(make_run: RunMaker):
    run = make_run()
    assert run.read_record() == record_of("a-run")
    assert run.read_record().resolved_study().search["learning_rate"].high == 1e-3
    assert run.read_record().budget().steps == 1800
    assert run.read_summary() is None
    run.write_summary(summary_of("a-run"))
    assert run.read_summary() == summary_of("a-run")
    assert not list(run.path.glob(".*"))  # nothing half-written stays


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-option", "a b", "é", "x" * 101])
def test_names_that_are_no_plain_folder_are_refused(name):
    with pytest.raises(SpaceError, match="a run name has 1 to 100 letters"):
        validate_name(name)


def test_default_name_says_what_and_when():
    name = default_name("cvae_psf", datetime(2026, 11, 21, 14, 30))
    assert name == validate_name(name) == "cvae_psf-20261121-143000"


def test_a_run_is_found_by_name_or_path_and_a_misspelt_one_is_hinted(make_run: RunMaker, tmp_path: Path):
    run = make_run(name="triplet-1")
    assert find("triplet-1", tmp_path) == run
    assert find(str(run.path)).study_db == run.study_db
    assert runs(tmp_path) == ["triplet-1"]
    with pytest.raises(SpaceError, match="did you mean 'triplet-1'"):
        find("tripplet-1", tmp_path)
    with pytest.raises(SpaceError, match="there is no run under"):
        find("triplet-1", tmp_path / "elsewhere")
    for number in range(7):
        make_run(name=f"other-{number}")
    with pytest.raises(SpaceError, match="did you mean 'triplet-1'"):  # the oldest of eight
        find("tripplet-1", tmp_path)
    with pytest.raises(SpaceError, match=r"the latest of 8 under .*: other-2, other-3, other-4, other-5, other-6$"):
        find("quick", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpaceError, match=r"the directory has no run\.json"):
        find("empty", tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "a-run"}', "\x00\x00"])
def test_a_damaged_record_is_named(make_run: RunMaker, content):
    run = make_run()
    run.record.write_text(content)
    with pytest.raises(RunError, match=r"run\.json: damaged") as caught:
        run.read_record()
    assert "\n" not in str(caught.value)


def test_a_name_is_used_once(make_run: RunMaker):
    make_run()
    with pytest.raises(RunError, match="a run of this name exists"):
        make_run()


def test_a_failed_write_leaves_the_old_file(make_run: RunMaker):
    run = make_run()
    run.write_summary(summary_of("a-run"))
    with pytest.raises(ValueError, match="JSON"):  # NaN is no JSON
        run.write_summary(summary_of("a-run").model_copy(update={"seconds": float("nan")}))
    assert run.read_summary() == summary_of("a-run")


def test_the_lock_excludes_other_processes_and_dies_with_its_holder(tmp_path: Path):
    run = RunDirectory(tmp_path / "locked")
    hold = "import sys; from pathlib import Path; from results.run_directory import RunDirectory\n"
    hold += "with RunDirectory(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"a search of this name is running .process {holder.pid} on "), run.lock():
            pass
        holder.kill()
    with run.lock(), pytest.raises(RunError, match="is running"), run.lock():
        pass
    with run.lock():
        pass
