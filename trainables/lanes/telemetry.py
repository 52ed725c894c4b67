"""Ray metrics of the lanes, for the Ray dashboard and Prometheus, exported from the lane board's actor."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

SPEED, BUSY = "psf_search_steps_per_second", "psf_search_lane_busy_fraction"
DESCRIPTIONS = {
    SPEED: "optimizer steps per second of the lane's latest report; 0 while it waits for a trial",
    BUSY: "share of the time since the lane was ready in which it had a trial",
}


@dataclass(slots=True)
class _Usage:
    ready: float
    busy: float = 0.0
    """Seconds with a trial, those of the present one not counted."""
    took: float | None = None
    speed: float = 0.0


class LaneTelemetry:
    """How fast and how busy each lane is. An event updates its lane's gauges in Ray, `export` all of them.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: dict[str, _Usage] = {}

    def ready(self, lane: str) -> None:
        """It has asked for work, for the first time or again."""
        self._lanes.setdefault(lane, _Usage(self._clock()))
        self._export(lane)

    def took(self, lane: str) -> None:
        """It has a trial, a new one or its own after a restart."""
        usage = self._lanes[lane]
        usage.took = self._clock() if usage.took is None else usage.took
        self._export(lane)

    def reported(self, lane: str, metrics: dict[str, float]) -> None:
        """What it reports; `train/steps_per_second` counts, if there."""
        self._lanes[lane].speed = metrics.get("train/steps_per_second", 0.0)
        self._export(lane)

    def released(self, lane: str) -> None:
        """It is done with its trial."""
        usage = self._lanes[lane]
        usage.busy, usage.took, usage.speed = self._busy(usage), None, 0.0
        self._export(lane)

    def lost(self, lane: str) -> None:
        """It is gone. A gauge cannot be taken back: its last values are 0."""
        if self._lanes.pop(lane, None) is not None:
            _set(lane, {SPEED: 0.0, BUSY: 0.0})

    def values(self, lane: str) -> dict[str, float]:
        """The gauges' values now."""
        usage = self._lanes[lane]
        return {SPEED: usage.speed, BUSY: self._busy(usage) / max(self._clock() - usage.ready, 1e-9)}

    def export(self) -> None:
        """Set the gauges; a lane's share changes also while nothing happens."""
        for lane in self._lanes:
            self._export(lane)

    def _export(self, lane: str) -> None:
        _set(lane, self.values(lane))

    def _busy(self, usage: _Usage) -> float:
        return usage.busy + (self._clock() - usage.took if usage.took is not None else 0.0)


def _set(lane: str, values: dict[str, float]) -> None:
    """Nothing where Ray does not run."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    for name, value in values.items():
        _gauge(name).set(value, tags={"lane": lane})


@cache
def _gauge(name: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(name, DESCRIPTIONS[name], tag_keys=("lane",))
