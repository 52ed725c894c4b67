"""Nodes that come and go, workers apart, fractions of a GPU: each in a process, for it has a Ray of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "scenario", ["nodes_come_and_go", "one_lane_on_two_nodes", "lanes_share_a_gpu", "the_only_lane_comes_back"]
)
def test_lanes_on(scenario, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.trainables.lanes.on_nodes", scenario, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "all is well" in done.stdout
