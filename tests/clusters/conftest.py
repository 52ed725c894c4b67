"""The search that tests have their clusters do, on this machine alone."""

import subprocess

import pytest

from tests.clusters.machines import network
from tests.clusters.tiny import OPTIONS, outcome
from tests.search.test_search import command


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """Its trials and its test scores."""
    with network(tmp_path_factory.mktemp("none")):
        pass  # before it is run in vain
    root = tmp_path_factory.mktemp("alone")
    places = ["--name", "triplet", "--out", root / "runs", "--cache", root / "cache"]
    arguments = command("--space", "cvae_psf", *OPTIONS, "--set", "resources.lanes=1", *places)
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return outcome(root)
