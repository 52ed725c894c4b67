"""What a person sees while a search runs: a live table on a terminal, plain lines when piped."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from results.narrow_table import NarrowTable
from search.observer import Observer
from search.plan import expected_steps, final_steps
from spaces.metrics import better
from spaces.study import Budget, Scalar, Study

# How many ended trials the live table keeps beside the running ones.
RECENT = 8
# How many ended trials the expected length of a trial weighs against those seen.
PRIOR_TRIALS = 10
STATES = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed"}


@dataclass(slots=True)
class _Row:
    number: int
    params: dict[str, Scalar]
    state: str = "running"
    step: int = 0
    value: float | None = None
    reason: str | None = None
    started: float = field(default_factory=time.monotonic)


class Display(Observer):
    """Shows how far the data is and the trials' lives; a context manager.

    Args:
        study: for the objective's name and direction.
        budget: the size of the search.
        console: where to write; its `is_terminal` chooses between the live table and plain lines.
    """

    def __init__(self, study: Study, *, budget: Budget, console: Console) -> None:
        self._objective = study.objective
        self._trials = budget.trials
        self._steps = budget.steps
        self._expected_steps = expected_steps(budget, study.scheduler) / budget.trials
        self._final_steps = final_steps(budget)
        self._lanes, self._places = 0, 1
        self._console = console
        self._rows: dict[int, _Row] = {}
        self._ended = 0
        self._ended_before = 0
        self._best: _Row | None = None
        self._search_started: float | None = None
        self._heard = 0.0
        """When the last report came."""
        self._lock = threading.Lock()
        self._note = ""
        self._preparing = Progress(
            TextColumn(study.system.doing),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._preparing.add_task("prepare", total=None, rate="")
        self._doing, self._tenths = study.system.doing, 0
        # Not redirecting: what libraries print has its place in a log, and Live would put it above the table.
        self._live = Live(
            get_renderable=self._picture,
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def note(self, text: str) -> None:
        """Say what is going on between the phases."""
        self._note = text
        if not self._console.is_terminal:
            self.say(text)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def prepared(self, done: int, total: int, rate: str) -> None:
        """How far the data is that has to be made, in items."""
        self._preparing.update(self._task, completed=done, total=total, rate=rate)
        tenths = 10 * done // total
        if not self._console.is_terminal and tenths > self._tenths:
            self._tenths = tenths
            self.say(f"{self._doing}: {10 * tenths} %")

    def search_started(
        self, ended_before: int, lanes: int, complete: Mapping[int, float] | None = None, places: int = 1
    ) -> None:
        """Trials begin, on lanes of so many places; `ended_before` of them ended before this process (resume), the complete ones with these values."""
        self._ended = self._ended_before = ended_before
        for number, value in (complete or {}).items():
            row = _Row(number, {}, state="complete", value=value)
            if self._is_better(row):
                self._best = row
        self._lanes, self._places = lanes, places
        self._search_started = time.monotonic()
        self._note = ""
        if not self._console.is_terminal:
            each = f" of {places} places" if places > 1 else ""
            done = f", {ended_before} of them done before" if ended_before else ""
            self.say(
                f"searching: {self._trials} trials of up to {self._steps} steps on {lanes} lane{'s' * (lanes > 1)}{each}{done}"
            )

    def lanes_changed(self, line: str, lanes: int) -> None:
        """A lane is lost or has been added, so that there are so many now; called from any thread."""
        self.say(line)
        self._lanes = lanes

    # Observer

    def trial_started(self, number: int, params: dict[str, Scalar]) -> None:
        with self._lock:
            self._rows[number] = _Row(number, params)

    def trial_reported(self, number: int, step: int, value: float, metrics: Mapping[str, float]) -> None:
        with self._lock:
            row = self._rows[number]
            row.step, row.value = step, value
            self._heard = time.monotonic()

    def trial_ended(self, number: int, state: str, step: int, value: float | None, reason: str | None) -> None:
        with self._lock:
            row = self._rows.setdefault(number, _Row(number, {}))
            row.state, row.step, row.value, row.reason = STATES[state], step, value, reason
            self._ended += 1
            self._heard = time.monotonic()
            if state == "COMPLETE" and self._is_better(row):
                self._best = row
        if not self._console.is_terminal:
            self.say(f"[{self._ended}/{self._trials}] trial {number} {self._describe(row)}; {self._standing()}")

    # Pictures

    def _is_better(self, row: _Row) -> bool:
        if self._best is None or self._best.value is None or row.value is None:
            return row.value is not None
        return better(self._objective.mode, row.value, self._best.value)

    def _describe(self, row: _Row) -> str:
        value = f", {self._objective.metric} {row.value:.4g}" if row.value is not None else ""
        reason = f" ({row.reason})" if row.reason else ""
        return f"{row.state} at step {row.step}/{self._steps}{value}{reason}"

    def _standing(self) -> str:
        best = f"best {self._best.value:.4g} (trial {self._best.number})" if self._best else "no complete trial yet"
        return f"{best}, {self._time_left()}"

    def _time_left(self) -> str:
        steps = sum(row.step for row in self._rows.values())
        if self._search_started is None or steps == 0:
            return "time left unknown"
        # Steps per trial: what the rungs lead to expect, ever less as trials end and show it.
        ended = [row.step for row in self._rows.values() if row.state != "running"]
        per_trial = (PRIOR_TRIALS * self._expected_steps + sum(ended)) / (PRIOR_TRIALS + len(ended))
        running = sum(max(per_trial - row.step, 0) for row in self._rows.values() if row.state == "running")
        waiting = per_trial * (self._trials - self._ended_before - len(self._rows))
        whole = (self._heard - self._search_started) / steps * (running + waiting + self._final_steps)
        seconds = max(0.0, whole - (time.monotonic() - self._heard))
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    def _picture(self) -> RenderableType:
        if self._search_started is None:
            return Group(self._preparing, Text(self._note, style="dim"))
        with self._lock:
            running = [row for row in self._rows.values() if row.state == "running"]
            ended = [row for row in self._rows.values() if row.state != "running"][-RECENT:]
        # On a narrow terminal the last ones have no room.
        table = NarrowTable(caption_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in ("trial", "state", self._objective.metric.rpartition("/")[2], "step", "seconds"):
            table.add_column(column, justify="left" if column == "state" else "right")
        now = time.monotonic()
        for row in [*ended, *running]:
            is_best = row is self._best
            style = "bold green" if is_best else {"running": "cyan", "failed": "red", "stopped": "dim"}.get(row.state)
            table.add_row(
                str(row.number),
                row.state + (f": {row.reason}" if row.reason else " (best)" if is_best else ""),
                "" if row.value is None else f"{row.value:.4g}",
                f"{row.step}/{self._steps}",
                f"{now - row.started:.0f}" if row.state == "running" else "",
                style=style,
            )
        busy = f"{len(running)}/{self._lanes * self._places} {'lanes' if self._places == 1 else 'places'}"
        # Finals are no trials.
        standing = [f"{self._ended}/{self._trials} trials", *([f"{busy} busy"] if running else []), self._standing()]
        return Group(table, Text(", ".join(standing), style="bold"), Text(self._note, style="dim"))
