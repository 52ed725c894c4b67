"""Many trainings in one process: those that are alike make their steps as one batched network, the others take turns.

A GPU is idle while Python launches the some hundred kernels of a small network's step. Batched, they serve all trainings of a pack.
Trainings come and go between steps, each in a thread of its own: a pack steps whoever is there.

    thread of a training   --run(steps 51..100)-->   pack   <--run(steps 1..50)--   thread of another
                           <--------totals--------          --------totals------->
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from trainables.training.batched import Batched, CannotBatch, alike
from trainables.training.cuda_graphs import StepGraph
from trainables.training.step import Step
from trainables.training.totals import Totals

Rates = Callable[[int], tuple[float, float]]
"""Number of a step, the first is 1 -> its learning rate and KL weight."""

logger = logging.getLogger(__name__)

AT_ONCE = 10
"""Steps made before a pack looks who else has come."""
KEPT = 16
"""Batches that are kept for when the same trainings are there again: whoever reports is away for a while. Of eight that do so at
different steps there are those of all and those without each; of fewer, most would be gone again before their graph is captured."""


@dataclass(eq=False)
class _Run:
    """Steps that a training waits for."""

    step: Step
    next: int
    last: int
    rates: Rates
    totals: Totals
    error: BaseException | None = None

    @property
    def left(self) -> int:
        return self.last - self.next + 1

    @property
    def done(self) -> bool:
        return self.left == 0 or self.error is not None


class Pack:
    """Makes the steps of all trainings of a process. Each calls `run` from its own thread; one of the waiting threads does the work."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Run] = []
        self._coming: set[Step] = set()
        """Whoever is about to call `run` again: worth waiting for."""
        self._stepping = False
        self._batched: dict[tuple[Step, ...], Batched] = {}
        """Of those who have made steps together, the last ones last."""
        self._alone: set[Step] = set()
        """Those that could not be batched after all."""

    def run(self, step: Step, first: int, last: int, rates: Rates, totals: Totals, *, again: bool = False) -> None:
        """Make the steps `first` to `last` of a training.

        Args:
            totals: what the steps return is added to them.
            again: the caller comes back at once for those that follow; if it does not, it must call `leave`.
        """
        run = _Run(step, first, last, rates, totals)
        self._make(run, again)
        error, run.error = run.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # else it would hold itself, by its traceback, and the memory of what has failed

    def _make(self, run: _Run, again: bool) -> None:
        """Return once its steps are made, by this thread or another, or have failed."""
        step = run.step
        with self._changed:
            self._coming.discard(step)
            self._waiting.append(run)
            self._changed.notify_all()
            try:
                while not run.done:
                    if self._stepping or self._coming:
                        self._changed.wait()
                    else:
                        self._make_some()
            finally:  # also of an error: nobody else is to make its steps
                self._waiting.remove(run)
            if again and run.error is None:
                self._coming.add(step)

    def leave(self, step: Step) -> None:
        """Nobody is to wait for a training, for now."""
        with self._changed:
            self._coming.discard(step)
            self._changed.notify_all()

    def forget(self, step: Step) -> None:
        """A training has ended: nothing of it is kept."""
        with self._changed:
            self._alone.discard(step)
            self._drop({step})

    def _drop(self, steps: set[Step]) -> None:
        """Keep no batch with any of them."""
        self._batched = {members: one for members, one in self._batched.items() if steps.isdisjoint(members)}

    def _make_some(self) -> None:
        """Steps of all that wait, without the lock."""
        # In one order, whoever came first.
        runs = sorted((run for run in self._waiting if not run.done), key=lambda run: id(run.step))
        self._stepping = True
        self._changed.release()
        try:
            count = min(AT_ONCE, *(run.left for run in runs))
            for group in self._groups(runs):
                self._advance(group, count)
        finally:
            self._changed.acquire()
            self._stepping = False
            self._changed.notify_all()

    def _groups(self, runs: list[_Run]) -> list[list[_Run]]:
        groups: dict[object, list[_Run]] = {}
        for run in runs:
            key = run.step if run.step in self._alone or len(runs) == 1 else alike(run.step)
            groups.setdefault(key, []).append(run)
        return list(groups.values())

    def _advance(self, runs: list[_Run], count: int) -> None:
        try:
            for _ in range(count):
                rates = [run.rates(run.next) for run in runs]
                if len(runs) == 1:
                    found = [runs[0].step(runs[0].next, *rates[0])]
                else:
                    found = self._of(runs)([run.next for run in runs], rates)
                for run, values in zip(runs, found, strict=True):
                    run.totals.add(values)
                    run.next += 1
        except CannotBatch as error:
            logger.warning("trainings make their steps one by one: %s", error)
            steps = {run.step for run in runs}
            with self._changed:
                self._alone |= steps
                self._drop(steps)
        except BaseException as error:  # each thread gets it, and ends as it would alone
            for run in runs:
                run.error = error

    def _of(self, runs: list[_Run]) -> Batched:
        members = tuple(run.step for run in runs)
        with self._changed:
            batched = self._batched.pop(members, None)
        if batched is None:
            try:
                batched = Batched(members, _joined(members))
            except Exception as error:
                raise CannotBatch(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        with self._changed:
            while len(self._batched) >= KEPT:
                del self._batched[next(iter(self._batched))]
            self._batched[members] = batched
        return batched


def _joined(members: tuple[Step, ...]) -> StepGraph | None:
    graphs = [step.graph for step in members if isinstance(step.graph, StepGraph)]
    return StepGraph.joined(graphs) if len(graphs) == len(members) else None
