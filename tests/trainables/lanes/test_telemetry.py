"""The lanes' gauges: their values from a clock of its own, and what Ray exports of them."""

import re
import urllib.request

import pytest
import ray

from tests.trainables.lanes.tasks import Counting
from tests.waiting import wait_until
from trainables.lanes.board import Assignment, LaneBoard
from trainables.lanes.telemetry import BUSY, SPEED, LaneTelemetry


def test_a_lane_is_busy_while_it_has_a_trial():
    now = 100.0
    telemetry = LaneTelemetry(lambda: now)
    telemetry.ready("lane-0")
    now = 110.0
    telemetry.ready("lane-0")  # asks again: it has been ready since 100
    telemetry.took("lane-0")
    telemetry.reported("lane-0", {"train/steps_per_second": 50.0})
    now = 120.0
    assert telemetry.values("lane-0") == {SPEED: 50.0, BUSY: 0.5}
    telemetry.took("lane-0")  # the same trial, after a restart
    now = 130.0
    telemetry.released("lane-0")
    now = 140.0
    assert telemetry.values("lane-0") == {SPEED: 0.0, BUSY: 0.5}


@pytest.mark.slow
def test_ray_exports_the_gauges_of_each_lane(ray_session):
    """Prometheus reads them at the node's metrics port, also without a dashboard."""
    board = ray.remote(LaneBoard).options(num_cpus=0).remote()
    for lane in ("lane-7", "lane-8"):
        ray.get(board.add_lanes.remote([lane]))
        ray.get(board.take.remote(lane, 0.001))
    ray.get(board.submit.remote(Assignment("a", 0, Counting())))
    ray.get(board.take.remote("lane-7", 1))
    board.report.remote("lane-7", "a", 1, {"train/steps_per_second": 12.5}, False)
    (node,) = ray.nodes()

    page = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"

    def exported(name):
        text = urllib.request.urlopen(page, timeout=30).read().decode()
        found = re.findall(rf'^ray_{name}\{{.*lane="(lane-[78])".*\}} (\S+)$', text, re.MULTILINE)
        return {lane: float(value) for lane, value in found}

    def fresh():
        ray.get(board.ready_lanes.remote())
        return exported(SPEED) == {"lane-7": 12.5, "lane-8": 0.0} and exported(BUSY).get("lane-7", 0) > 0.5

    wait_until(fresh, seconds=120)
    assert exported(BUSY)["lane-8"] == 0.0
    ray.kill(board)
