"""The command line with buckets: what is refused before any work, and whole searches."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from results.records import read_trials
from search.cli import main
from search.storage.own_disk import OWN_DISK
from search.storage.place import Place
from tests.processes import tree
from tests.search.test_search import SETTINGS, TRIALS, command


def refused(capsys, *arguments: object) -> str:
    """The one line with which a command ends as badly called."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    said: str = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    return said


RUN = ("run", "--space", "vae_mnist", "--preset", "quick", "--name", "one")


def test_what_cannot_be_used_is_refused_in_one_line_before_any_work(address, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there, missing = address("runs"), "s3://another-bucket/runs?" + address().partition("?")[2]
    for arguments, says in (
        ((*RUN, "--out", missing), "NoSuchBucket"),
        ((*RUN, "--cache", missing), "NoSuchBucket"),
        ((*RUN, "--out", "gs://bucket/runs"), "gs:// is not supported"),
        ((*RUN, "--cache", "abfs://bucket/runs"), "abfs:// is not supported"),
        ((*RUN, "--out", there, "--address", "127.0.0.1:1"), "--address"),
        ((*RUN, "--out", tmp_path, "--cache", there, "--address", "127.0.0.1:1"), "--address"),
        (("run", "--resume", "one", "--out", there), "no such run"),
        (("analyze", "one", "--out", there), "no such run"),
        (("report", address("runs/one")), "no such run"),
        (("export", address("runs/one")), "no such run"),
        (("cache", "ls", "--cache", there), "expected a directory"),
    ):
        assert says in refused(capsys, *arguments)
    assert [path.name for path in tmp_path.iterdir() if path.name != "own"] == ["results"]  # of the default cache
    assert not any((tmp_path / "results").rglob("*.json"))


def test_no_permission_is_told(address, tmp_path, capsys, locked_out):
    locked_out()
    assert "Access" in refused(capsys, *RUN, "--out", address("runs"), "--cache", tmp_path)


def test_without_its_library_a_bucket_is_refused(tmp_path):
    blocked = "import sys; sys.modules['botocore'] = None; from search.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", blocked, *RUN, "--out", "s3://bucket/runs", "--cache", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "psf-search[s3]" in done.stderr


@pytest.mark.slow
def test_a_search_whose_machine_is_lost_is_gone_on_with_on_another(address, tmp_path, monkeypatch):
    """kill -9 of all its processes, and its disk gone: the bucket has the run but for the last seconds, and the data."""
    first = {**os.environ, "PYTHONUNBUFFERED": "1", OWN_DISK: str(tmp_path / "first")}
    second = {**first, OWN_DISK: str(tmp_path / "second")}
    options = ["--out", address("runs"), "--cache", address("cache")]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    start = ["--space", "cvae_psf", "--preset", "quick", "--trials", TRIALS, "--name", "lost", *settings]
    process = subprocess.Popen(command(*start, *options), stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=first)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[4/"):  # four trials have ended
            for pid in tree(process.pid):  # the whole machine
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            break
    process.stdout.read()
    assert process.wait(timeout=60) == -signal.SIGKILL
    shutil.rmtree(tmp_path / "first")
    monkeypatch.setenv(OWN_DISK, second[OWN_DISK])
    place = Place.of_runs(address("runs"))
    kept = place.find("lost")
    copied = {one.number: one.value for one in read_trials(kept.directory) if one.state in ("COMPLETE", "PRUNED")}
    assert copied
    assert any(kept.directory.trials.rglob("*.safetensors"))
    shutil.rmtree(tmp_path / "second")

    assert kept.mirror is not None
    kept.mirror.bucket.delete(["driver.json"])  # as it counts after a minute
    done = subprocess.run(
        command("--resume", address("runs/lost"), *options[2:]),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env=second,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = place.find("lost").directory
    trials = read_trials(run)
    assert len(trials) == TRIALS
    assert all(one.state in ("COMPLETE", "PRUNED") for one in trials)
    assert {number: trials[number].value for number in copied} == copied
    summary = run.read_summary()
    assert summary is not None
    assert summary.prepared["rays traced"] == 0  # fetched

    monkeypatch.setenv(OWN_DISK, str(tmp_path / "third"))  # where it is only read
    answer = subprocess.run(
        [sys.executable, "-m", "search.cli", "analyze", address("runs/lost")],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert answer.returncode == 0, answer.stderr
    there = Place.of_runs(address("runs")).find("lost").directory
    for file in (there.report, there.summary, there.model / "config.json"):
        assert file.read_bytes() == (run.path / file.relative_to(there.path)).read_bytes()
