"""Claim: a thousand lanes and ten thousand trials cost the board a fraction of a millisecond per event and the driver as much per trial at the end as at the start.

The lanes are simulated: they train nothing, and all of them are always busy. Board, ledger (SQLite on disk), sampler and early stopping are those of a
search, without Ray and its Tune, whose share `benchmarks.overhead` has. Times are of the CPU. What would limit next is in docs/search.md.

    python -m benchmarks.scale
"""

from __future__ import annotations

import asyncio
import heapq
import resource
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from benchmarks._shared import Options
from benchmarks.search import Ours
from spaces.loading import load
from trainables.lanes.board import Assignment, LaneBoard
from trainables.lanes.task import Progress, Worker

REPORTS = 4
"""Of a simulated trial on the board."""
PARTS = 5
"""Of a search, whose costs are printed one by one."""


@dataclass(frozen=True)
class _Nothing:
    """A task that nobody trains."""

    metric: str = ""

    def reports(self, worker: Worker) -> Generator[Progress]:
        yield from ()


@dataclass
class _Calls:
    events: int = 0


async def _lane(board: LaneBoard, name: str, calls: _Calls) -> None:
    while not isinstance(taken := await board.take(name, 60.0), str):
        calls.events += 1
        for step in range(REPORTS):
            calls.events += 1
            metrics = {"train/steps_per_second": 1.0}
            if not await board.report(name, taken.attempt, step, metrics, step == REPORTS - 1):
                break
        await board.release(name)
        calls.events += 1


async def _trial(board: LaneBoard, number: int, calls: _Calls) -> None:
    attempt = f"attempt-{number}"
    await board.submit(Assignment(attempt, number, _Nothing()))
    calls.events += 1
    while not (await board.next_report(attempt)).last:
        calls.events += 1


async def _board(lanes: int, trials: int) -> float:
    """CPU milliseconds per event of a board."""
    board, calls = LaneBoard(), _Calls()
    names = [f"lane-{index}" for index in range(lanes)]
    for name in names:
        await board.add_lanes([name])
    numbers = iter(range(trials))

    async def place() -> None:
        for number in numbers:
            await _trial(board, number, calls)

    began = time.process_time()
    serving = [asyncio.create_task(_lane(board, name, calls)) for name in names]
    await asyncio.gather(*(place() for _ in names))
    await board.close()
    await asyncio.gather(*serving)
    return 1e3 * (time.process_time() - began) / calls.events


def _search(lanes: int, trials: int) -> list[float]:
    """CPU milliseconds per trial of each part of a search."""
    study = load("cvae_psf", ["sampler=tpe"])
    budget = study.budget["full"].model_copy(update={"trials": trials})
    steps, rng = budget.report_steps(), np.random.default_rng(0)
    part, done, events, ended = trials // PARTS, 0, 0, 0
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        search = Ours(study, budget, folder)
        running: list[tuple[float, int, int, float]] = []  # when it reports next, its number, at which step, its level

        def start(now: float, number: int) -> None:
            search.suggest(str(number), lambda params: params or {})
            heapq.heappush(running, (now + rng.exponential(), number, 0, rng.lognormal()))

        began = time.process_time()
        for number in range(min(lanes, trials)):
            start(0.0, number)
        started = len(running)
        print(f"first {started:,} trials started: {1e3 * (time.process_time() - began) / started:.1f} ms each")
        began = time.process_time()
        while running:
            now, number, index, level = heapq.heappop(running)
            last = index == len(steps) - 1
            events += 1
            if search.report(str(number), steps[index], level * (1 + steps[-1] / steps[index]), last):
                heapq.heappush(running, (now + rng.exponential(), number, index + 1, level))
                continue
            ended += 1
            if started < trials:
                start(now, started)
                started += 1
            if ended - done == part:
                spent, done = time.process_time() - began, ended
                costs.append(1e3 * spent / part)
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(
                    f"{ended:>7,} trials ended: {costs[-1]:6.1f} ms per trial, {1e3 * spent / events:5.2f} ms per report, "
                    f"{memory:,.0f} MB",
                    flush=True,
                )
                began, events = time.process_time(), 0
    return costs


def main() -> None:
    options = Options(__doc__)
    options.add_size("--lanes", 1000, 4, "simulated lanes")
    options.add_size("--trials", 10_000, 20, "trials of the search")
    options.add_size("--board-trials", 10_000, 20, "trials on the board")
    given = options.parse()
    few = asyncio.run(_board(min(10, given.lanes), given.board_trials))
    many = asyncio.run(_board(given.lanes, given.board_trials))
    print(f"board: {few:.3f} ms per event with {min(10, given.lanes)} lanes, {many:.3f} ms with {given.lanes:,}")
    first, *_, last = _search(given.lanes, given.trials)
    print(f"board_ms={many:.3f} driver_ms={last:.1f} driver_growth={last / first:.2f}")


if __name__ == "__main__":
    main()
