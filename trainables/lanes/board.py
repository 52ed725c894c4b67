"""The lane board: one actor through which Tune trials and lanes exchange assignments, reports and decisions.

A trial posts an assignment; the next idle lane takes it, trains, and reports at every report step. The lane waits for
the trial's decision before it goes on, except after the last report. The board only passes messages, so this module
imports neither torch nor ray.train: its actor starts in a second.

    trial   --submit-->  board  --take-->    lane
    trial  <--next_report--     <--report--  lane
    trial   --next_report (go on) | stop-->  lane

A lane that trains several trials at once has as many places, and each takes, reports and releases by itself. What the board calls
a lane is a place: `lane-0` of a lane with one, `lane-0.2` the third of a lane with more.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainables.lanes.task import Task
from trainables.lanes.telemetry import LaneTelemetry

Order = Literal["wait", "close"]
"""What a lane is told in place of an assignment."""

BOARD = "lane-board"
"""The actor's name, in the job's namespace."""

NO_LANE = "no lane is left"
"""How the failure of an attempt begins that could not be trained at all."""

NO_SPACE = "no space is left"
"""The same where every other attempt would fail too: the disk is full."""

HALTS = (NO_LANE, NO_SPACE)
"""Failures that end the search. Their trials wait to be resumed."""


def places_of(lane: str, places: int) -> list[str]:
    """The names of a lane's places."""
    return [lane] if places == 1 else [f"{lane}.{index}" for index in range(places)]


def lane_of(place: str) -> str:
    """The lane that a place belongs to."""
    return place.partition(".")[0]


# An assignment that has ended in an error so often, without a new report between, is given up: the trial fails, the lane
# goes on with the next one.
MAX_STARTS = 4


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one trial. `attempt` is unique; a retried trial posts a new attempt with the same `trial`."""

    attempt: str
    trial: int
    """Its number; negative for what is no trial of the search."""
    task: Task
    name: str = ""
    """For logs; `trial N` unless given."""

    def __str__(self) -> str:
        return self.name or f"trial {self.trial}"


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
    """Who trains it now."""
    started: float = 0.0
    spent: float = 0.0
    """Seconds on lanes that were lost."""
    starts: int = 0
    """Starts since its last new report."""
    error: str | None = None
    """What a worker said before it died."""
    step: int = -1
    """Last step reported: a restarted lane may report it again, which must not reach the trial twice."""
    stopped: bool = False
    """The trial wants no more of it."""
    ended: bool = False
    """Its last report is made."""
    reports: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)
    decision: asyncio.Future[bool] | None = None

    @property
    def over(self) -> bool:
        """Nothing is left to train."""
        return self.stopped or self.ended

    @property
    def suspect(self) -> bool:
        """Its worker has died since its last new report, perhaps because of it."""
        return self.starts > 1

    def seconds(self) -> float:
        return self.spent + (time.monotonic() - self.started if self.lane is not None else 0.0)


@dataclass(slots=True)
class _Lane:
    attempt: str | None = None
    trial: int | None = None
    takes: int = 0
    """Number of times it asked for work."""


class LaneBoard:
    """Asyncio actor; every method is called with `.remote`. See the module's picture. Lanes come and go."""

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}
        self._queue: deque[str] = deque()
        self._lanes: dict[str, _Lane] = {}
        self._idle: dict[str, asyncio.Future[Assignment | Order]] = {}
        """Lanes that wait for work, the longest waiting first."""
        self._loss: str | None = None
        """Why no lane is left, and none will be."""
        self._telemetry = LaneTelemetry()
        self._asked = asyncio.Condition()
        """A lane has asked for work for the first time, or is lost."""
        self._closing = False

    # The Tune trial's side

    async def submit(self, assignment: Assignment) -> None:
        """Post an attempt. An earlier attempt at the same trial (its actor died) is told to stop."""
        await self.stop_trial(assignment.trial)
        self._attempts[assignment.attempt] = _Attempt(assignment)
        self._queue.append(assignment.attempt)
        self._fail_without_lanes()
        self._hand_out()

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

    async def take(self, lane: str, timeout: float) -> Assignment | Order:
        """The lane's unfinished attempt if it was restarted, else the next one posted; "wait" after `timeout` s.

        What has lost its worker twice since it last reported is not trained beside others of which that is true: one of them may be
        what ends the worker, and the others must not be given up for it.
        """
        state = self._lanes.get(lane)
        if state is None:  # given up as lost: what still runs there is to end
            return "close"
        state.takes += 1
        self._answer(lane, "wait")  # to an earlier call, whose process is dead
        self._telemetry.ready(lane)
        if state.takes == 1:
            await self._notify()
        if state.attempt is not None:
            if self._is_suspect(state.attempt) and lane_of(lane) in self._suspected(but=lane):
                self._put_back(state)
                self._telemetry.released(lane)
            elif (held := self._begin(lane, state.attempt)) is not None:
                return held
            else:
                self._release(lane)
        if self._closing:
            return "close"
        answer = self._idle[lane] = asyncio.get_running_loop().create_future()
        self._hand_out()
        await asyncio.wait([answer], timeout=timeout)
        if not answer.done():
            self._answer(lane, "wait")
        found: Assignment | Order = answer.result()
        return found

    async def report(self, lane: str, attempt: str, step: int, metrics: dict[str, float], last: bool) -> bool:
        """Pass a report on; True to go on. A repeated step is not passed on again, nor what a lost lane still says.

        The last report is not waited for: the lane is free for its next trial at once.
        """
        state = self._attempts.get(attempt)
        if state is None or state.over or state.lane != lane:
            return False
        self._telemetry.reported(lane, metrics)
        if (
            step > state.step or last
        ):  # what is repeated may end earlier than it did at first, on a stream or other hardware
            cleared = state.suspect
            state.step, state.starts, state.error, state.ended = max(step, state.step), 1, None, last
            state.reports.put_nowait(Report(step, metrics, state.seconds(), lane, last))
            state.decision = None if last else asyncio.get_running_loop().create_future()
            if cleared:
                self._hand_out()
        return True if state.decision is None else await asyncio.shield(state.decision)

    async def fail(self, attempt: str, reason: str) -> None:
        """The attempt cannot go on: the trial hears why."""
        self._fail(attempt, reason)

    async def crashing(self, attempt: str, reason: str) -> None:
        """A worker group is about to give up this start because of an error; told should it happen too often."""
        if attempt in self._attempts:
            self._attempts[attempt].error = reason

    async def release(self, lane: str) -> None:
        """The lane is done with its attempt, whatever its end."""
        self._release(lane)
        self._hand_out()

    # The driver's side

    async def add_lanes(self, lanes: Sequence[str]) -> None:
        """Lanes are being started."""
        self._lanes.update((lane, _Lane()) for lane in lanes)

    async def lanes_lost(self, lanes: Sequence[str], reason: str, back: bool = False) -> None:
        """Lanes are no more, all at once: none is given what another trained. That is next elsewhere; with no lane left everything
        posted fails.

        Args:
            back: there will be others, for which what is posted waits.
        """
        self._loss = None if back else reason
        for lane in reversed(lanes):  # what they trained is next in their order
            self._lose(lane)
        self._fail_without_lanes()
        self._hand_out()
        await self._notify()

    async def give_up(self, reason: str) -> None:
        """There will be no other lane after all."""
        self._loss = reason
        self._fail_without_lanes()

    async def wait_ready(self) -> None:
        """Return once every lane that was added has asked for work or is lost."""
        async with self._asked:
            await self._asked.wait_for(lambda: all(lane.takes for lane in self._lanes.values()))

    async def ready_lanes(self) -> set[str]:
        """The lanes that have asked for work."""
        self._telemetry.export()
        return {name for name, lane in self._lanes.items() if lane.takes}

    async def close(self) -> None:
        """Every lane ends after its present report."""
        self._closing = True
        for attempt in list(self._attempts):
            await self.stop(attempt)
        for lane in list(self._idle):
            self._answer(lane, "close")

    def _lose(self, lane: str) -> None:
        state = self._lanes.pop(lane)
        self._answer(lane, "wait")
        self._telemetry.lost(lane)
        self._put_back(state)

    def _put_back(self, lane: _Lane) -> None:
        """What it trains is the next to be handed out, unless it is over."""
        held = self._attempts.get(lane.attempt) if lane.attempt is not None else None
        lane.attempt = lane.trial = None
        if held is not None:
            held.spent, held.lane = held.seconds(), None
            if not held.over:
                self._queue.appendleft(held.assignment.attempt)
            elif held.stopped:
                self._forget(held.assignment.attempt)

    def _is_suspect(self, attempt: str | None) -> bool:
        state = self._attempts.get(attempt) if attempt is not None else None
        return state is not None and state.suspect and not state.over

    def _suspected(self, but: str = "") -> set[str]:
        """Lanes of which a place, other than the one, has a suspect."""
        return {lane_of(name) for name, lane in self._lanes.items() if name != but and self._is_suspect(lane.attempt)}

    def _begin(self, lane: str, attempt: str) -> Assignment | None:
        """Hand an attempt to a lane; None if it is over, or fails because it was started too often."""
        state = self._attempts.get(attempt)
        if state is None or state.over:
            return None
        if state.lane is None:
            state.lane, state.started = lane, time.monotonic()
        if state.starts == MAX_STARTS:
            cause = state.error or "its worker died"
            self._fail(attempt, f"{cause} ({state.starts} times, at step {max(state.step, 0)})")
            return None
        state.starts += 1
        self._lanes[lane].attempt, self._lanes[lane].trial = attempt, state.assignment.trial
        self._telemetry.took(lane)
        return state.assignment

    def _fail(self, attempt: str, reason: str) -> None:
        state = self._attempts.get(attempt)
        if state is not None and not state.over:
            state.ended, state.decision = True, None
            state.reports.put_nowait(Report(max(state.step, 0), {}, state.seconds(), state.lane or "", True, reason))

    def _fail_without_lanes(self) -> None:
        if self._lanes or self._loss is None:
            return
        for attempt in self._queue:
            self._fail(attempt, f"{NO_LANE}: {self._loss}")
        self._queue.clear()

    def _decide(self, state: _Attempt, go_on: bool) -> None:
        if state.decision is not None and not state.decision.done():
            state.decision.set_result(go_on)

    def _hand_out(self) -> None:
        """Give what is posted to the places that wait, first where the fewest others of a lane are busy.

        Not a trial that a lane still holds: two must never write to one trial's folder. Not two suspects to one lane (`take`).
        """
        if not self._idle or not self._queue:
            return
        held = {lane.trial for lane in self._lanes.values()}
        busy = Counter(lane_of(name) for name, lane in self._lanes.items() if lane.attempt is not None)
        suspected = self._suspected()
        for attempt in list(self._queue):
            state = self._attempts[attempt]
            free = [name for name in self._idle if not (state.suspect and lane_of(name) in suspected)]
            if not free or state.assignment.trial in held:
                continue
            self._queue.remove(attempt)
            lane = min(free, key=lambda name: busy[lane_of(name)])
            if (taken := self._begin(lane, attempt)) is not None:
                held.add(taken.trial)
                busy[lane_of(lane)] += 1
                if state.suspect:
                    suspected.add(lane_of(lane))
                self._answer(lane, taken)
                if not self._idle:
                    return

    def _answer(self, lane: str, answer: Assignment | Order) -> None:
        """End a lane's wait for work, if it waits."""
        if (waiting := self._idle.pop(lane, None)) is not None:
            waiting.set_result(answer)

    def _release(self, lane: str) -> None:
        state = self._lanes.get(lane)
        if state is None or state.attempt is None:
            return
        held = self._attempts.get(state.attempt)
        if held is not None:
            self._fail(state.attempt, "ended without its last report")  # unless it is over
            held.spent, held.lane = held.seconds(), None
            if held.stopped:
                self._forget(state.attempt)
        state.attempt = state.trial = None
        self._telemetry.released(lane)

    def _forget(self, attempt: str) -> None:
        self._attempts.pop(attempt, None)
        if attempt in self._queue:
            self._queue.remove(attempt)

    async def _notify(self) -> None:
        async with self._asked:
            self._asked.notify_all()
