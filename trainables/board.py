"""The lane board: one actor through which Tune trials and lanes exchange assignments, reports and decisions.

A trial posts an assignment; the next idle lane takes it, trains, and reports at every report step. The lane waits for
the trial's decision before it goes on, except after the last report. The board only passes messages, so this module
imports neither torch nor ray.train: its actor starts in a second.

    trial   --submit-->  board  --take-->    lane
    trial  <--next_report--     <--report--  lane
    trial   --next_report (go on) | stop-->  lane
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

BOARD = "lane-board"
"""The actor's name, in the job's namespace."""

NO_LANE = "no lane is left"
"""How the failure of an attempt begins that could not be trained at all."""

# An assignment that has ended in an error so often, without a new report between, is given up: the trial fails, the lane
# goes on with the next one.
MAX_STARTS = 4


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one trial. `attempt` is unique; a retried trial posts a new attempt with the same `trial`."""

    attempt: str
    trial: int
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What a lane says of an attempt: metrics at a step, or why it failed."""

    step: int
    metrics: dict[str, float]
    seconds: float
    """Lane time since the attempt started."""
    lane: str
    last: bool = False
    failure: str | None = None


@dataclass(slots=True)
class _Attempt:
    assignment: Assignment
    lane: str | None = None
    started: float = 0.0
    starts: int = 0
    """Starts since its last new report."""
    error: str | None = None
    """What a worker said before it died."""
    step: int = -1
    """Last step reported: a restarted lane may report it again, which must not reach the trial twice."""
    stopped: bool = False
    reports: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)
    decision: asyncio.Future[bool] | None = None


@dataclass(slots=True)
class _Lane:
    attempt: str | None = None
    trial: int | None = None
    takes: int = 0
    """Number of times it asked for work: only its last call may be served, an earlier one's process is dead."""
    lost: str | None = None
    """Why it will not come back."""


class LaneBoard:
    """Asyncio actor for so many lanes; every method is called with `.remote`. See the module's picture."""

    def __init__(self, lanes: int) -> None:
        self._lane_count = lanes
        self._attempts: dict[str, _Attempt] = {}
        self._queue: deque[str] = deque()
        self._lanes: dict[str, _Lane] = {}
        self._changed = asyncio.Condition()
        self._closing = False

    # The Tune trial's side

    async def submit(self, assignment: Assignment) -> None:
        """Post an attempt. An earlier attempt at the same trial (its actor died) is told to stop."""
        await self.stop_trial(assignment.trial)
        self._attempts[assignment.attempt] = _Attempt(assignment)
        self._queue.append(assignment.attempt)
        await self._fail_without_lanes()
        await self._notify()

    async def next_report(self, attempt: str) -> Report:
        """Let the lane go on, then wait for its next report."""
        state = self._attempts[attempt]
        self._decide(state, True)
        report = await state.reports.get()
        if report.last:
            self._forget(attempt)
        return report

    async def stop(self, attempt: str) -> None:
        """The trial wants no more of this attempt; does nothing if it has ended."""
        state = self._attempts.get(attempt)
        if state is None:
            return
        state.stopped = True
        self._decide(state, False)
        if state.lane is None:
            self._forget(attempt)

    async def stop_trial(self, trial: int) -> None:
        """Stop whatever attempt at a trial is left, for one whose actor is gone."""
        for attempt in [name for name, state in self._attempts.items() if state.assignment.trial == trial]:
            await self.stop(attempt)

    # The lane's side

    async def take(self, lane: str, timeout: float) -> Assignment | Literal["wait", "close"]:
        """The lane's unfinished attempt if it was restarted, else the next one posted; "wait" after `timeout` s."""
        state = self._lanes.setdefault(lane, _Lane())
        state.takes += 1
        mine = state.takes
        await self._notify()
        if state.attempt is not None:
            held = self._attempts.get(state.attempt)
            if held is not None and not held.stopped:
                if held.starts < MAX_STARTS:
                    held.starts += 1
                    return held.assignment
                cause = held.error or "its worker died"
                await self.fail(state.attempt, f"{cause} ({held.starts} times, at step {max(held.step, 0)})")
            self._release(state)
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(
                    lambda: self._closing or state.takes != mine or self._next_attempt() is not None
                )
                if self._closing:
                    return "close"
                attempt = self._next_attempt()
                if state.takes != mine or attempt is None:
                    return "wait"
                self._queue.remove(attempt)
        except TimeoutError:
            return "wait"
        taken = self._attempts[attempt]
        taken.lane, taken.started, taken.starts = lane, time.monotonic(), 1
        state.attempt, state.trial = attempt, taken.assignment.trial
        return taken.assignment

    async def report(self, attempt: str, step: int, metrics: dict[str, float], last: bool) -> bool:
        """Pass a report on; True to go on. A repeated step is not passed on again.

        The last report is not waited for: the lane is free for its next trial at once.
        """
        state = self._attempts.get(attempt)
        if state is None or state.stopped:
            return False
        if step > state.step:
            state.step, state.starts, state.error = step, 1, None
            lane = state.lane or ""
            state.reports.put_nowait(Report(step, metrics, time.monotonic() - state.started, lane, last))
            state.decision = None if last else asyncio.get_running_loop().create_future()
        return True if state.decision is None else await asyncio.shield(state.decision)

    async def fail(self, attempt: str, reason: str) -> None:
        """The attempt cannot go on: the trial hears why."""
        state = self._attempts.get(attempt)
        if state is not None and not state.stopped:
            seconds = time.monotonic() - state.started if state.started else 0.0
            state.reports.put_nowait(Report(max(state.step, 0), {}, seconds, state.lane or "", True, reason))
            state.decision = None

    async def crashing(self, attempt: str, reason: str) -> None:
        """A worker group is about to give up this start because of an error; told should it happen too often."""
        if attempt in self._attempts:
            self._attempts[attempt].error = reason

    async def release(self, lane: str) -> None:
        """The lane is done with its attempt, whatever its end."""
        self._release(self._lanes[lane])
        await self._notify()

    # The driver's side

    async def lane_lost(self, lane: str, reason: str) -> None:
        """A lane will not come back. Its trial fails; once no lane is left, everything posted does."""
        state = self._lanes.setdefault(lane, _Lane())  # it may have died before it asked for work
        state.lost = reason
        if state.attempt is not None:
            alone = all(one.lost is not None for one in self._lanes.values()) and len(self._lanes) == self._lane_count
            await self.fail(state.attempt, f"{NO_LANE}: {reason}" if alone else reason)
        self._release(state)
        await self._fail_without_lanes()
        await self._notify()

    async def wait_ready(self) -> dict[str, str]:
        """Return once every lane has asked for work or is lost; the lost ones with their reasons."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._lanes) == self._lane_count)
        return {name: lane.lost for name, lane in self._lanes.items() if lane.lost is not None}

    async def close(self) -> None:
        """Every lane ends after its present report."""
        self._closing = True
        for attempt in list(self._attempts):
            await self.stop(attempt)
        await self._notify()

    async def _fail_without_lanes(self) -> None:
        reasons = [lane.lost for lane in self._lanes.values() if lane.lost is not None]
        if len(reasons) == self._lane_count:
            for attempt in list(self._queue):
                await self.fail(attempt, f"{NO_LANE}: {reasons[-1]}")
            self._queue.clear()

    def _decide(self, state: _Attempt, go_on: bool) -> None:
        if state.decision is not None and not state.decision.done():
            state.decision.set_result(go_on)

    def _next_attempt(self) -> str | None:
        """The first one posted whose trial no lane still holds: two lanes must never write to one trial's folder."""
        held = {lane.trial for lane in self._lanes.values()}
        return next((name for name in self._queue if self._attempts[name].assignment.trial not in held), None)

    def _release(self, lane: _Lane) -> None:
        if lane.attempt is None:
            return
        state = self._attempts.get(lane.attempt)
        if state is not None:
            state.lane = None
            if state.stopped:
                self._forget(lane.attempt)
        lane.attempt = lane.trial = None

    def _forget(self, attempt: str) -> None:
        self._attempts.pop(attempt, None)
        if attempt in self._queue:
            self._queue.remove(attempt)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
