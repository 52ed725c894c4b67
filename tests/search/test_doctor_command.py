"""`psf-search doctor` of this machine alone: quick, without Ray, and without a trace."""

import json

import pytest

from tests.search.test_cli import command


def test_this_machine(tmp_path):
    done = command(["doctor", "--out", tmp_path / "runs", "--cache", tmp_path / "cache"])
    assert done.returncode == 0, done.stdout + done.stderr
    *lines, summary, loaded = done.stdout.splitlines()
    assert summary.startswith("this machine: ")
    assert "error" not in summary
    assert loaded == "loaded: []"
    assert max(map(len, lines)) <= 100
    assert not any(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written_to(tmp_path):
    done = command(["doctor", "--out", "/dev/null/runs", "--cache", tmp_path, "--json"])
    assert done.returncode == 1
    said = json.loads(done.stdout.rpartition("loaded:")[0])
    assert [one["level"] for one in said["findings"] if "--out" in one["message"]] == ["error"]
    assert said["driver"]["places"]["--cache"]["error"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--nodes", "2"], "--nodes: goes with --address"),
        (["--wait", "2"], "--wait: goes with --address"),
        (["--address", "127.0.0.1:1", "--wait", "2"], "--wait: goes with --nodes"),
        (["--address", "127.0.0.1:1", "--nodes", "0"], "--nodes"),
        (["--address", f"{'a' * 64}:80"], "no Ray cluster answers there"),
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers there"),
    ],
)
def test_bad_input(arguments, says):
    done = command(["doctor", *arguments])
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "loaded: []" in done.stdout
