"""The commands of docs/features.md are there, and act on the newest run of images unless one is named."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = (ROOT / "docs" / "features.md").read_text().split("## Commands of 004\n")[-1]
ROWS = [row.strip("|").split(" | ") for row in re.findall(r"^\| `.*$", COMMANDS, re.MULTILINE)]


def make(directory, *arguments):
    """What `make` would do in a folder with this Makefile, where everything is installed."""
    shutil.copy(ROOT / "Makefile", directory)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).touch()
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def a_run(directory, name, system, age):
    path = directory / "results" / "runs" / name / "model" / "config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"system": system}))
    os.utime(path, (1e9 - age, 1e9 - age))


def test_every_command_is_there(tmp_path):
    ours = {name for row in ROWS for name in re.findall(r"make ([\w-]+)", row[1])}
    theirs = {name for row in ROWS for name in re.findall(r"make ([\w-]+)", row[0])}
    assert theirs - ours == {"install", "install-dev"}
    for name in ours:
        done = make(tmp_path, name, "RUN=mine")
        assert done.returncode == 0, done.stderr


def test_help_names_every_command():
    makefile = (ROOT / "Makefile").read_text()
    told = " ".join(re.findall(r"^([a-z0-9 -]+):.*## ", makefile, re.MULTILINE)).split()
    assert sorted(told) == sorted(" ".join(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)).split())


@pytest.mark.parametrize(
    ("command", "does"),
    [
        ("eval", "analyze new"),
        ("compare-dae", "analyze new"),
        ("sample", "figures new --only samples"),
        ("viz-recon", "figures new --only reconstructions"),
        ("viz-traverse", "figures new --only traversals"),
        ("viz-scatter", "figures new --only latents"),
        ("interpolate", "figures new --only interpolations"),
    ],
)
def test_a_command_takes_the_newest_run_of_images_that_has_a_model(tmp_path, command, does):
    for name, system, age in (("old", "vae_image", 3), ("new", "vae_image", 2), ("psf", "cvae_psf", 1)):
        a_run(tmp_path, name, system, age)
    (tmp_path / "results" / "runs" / "unfinished").mkdir()
    assert make(tmp_path, command).stdout == f".venv/bin/psf-search {does}\n"
    assert make(tmp_path, command, "RUN=old").stdout == f".venv/bin/psf-search {does.replace('new', 'old')}\n"


def test_without_a_run_one_line_says_so(tmp_path):
    done = make(tmp_path, "sample")
    assert done.returncode == 2
    assert "no finished run of images in results/runs" in done.stderr
    assert done.stderr.count("\n") == 1
