"""Tasks without science, for lanes to do. A module of its own: the board's process, the trials' and the lanes' import it."""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import ray

from trainables.lanes.task import Progress, TrialFailure, Worker


@dataclass(frozen=True)
class Counting:
    """Reports until it is closed; rank 0 alone knows which report is the last."""

    steps: int = 1
    metric: str = ""
    leaves: str | None = None
    """A file that is there once the task has been closed on rank 0."""

    def reports(self, worker: Worker) -> Generator[Progress]:
        try:
            for step in count(1):
                yield Progress(step, {"x": 1.0 / step}, worker.rank == 0 and step == self.steps)
        finally:
            if self.leaves is not None and worker.rank == 0:
                Path(self.leaves).touch()


@dataclass(frozen=True)
class Failing:
    """Raises at its first step."""

    error: Exception
    metric: str = ""

    def reports(self, worker: Worker) -> Generator[Progress]:
        raise self.error
        yield  # a generator: it raises when it is stepped


@dataclass(frozen=True)
class Staged:
    """Goes on from the step that a file has, and from half of its steps on waits for the curtain of the actor `stage`."""

    directory: str
    report_steps: tuple[int, ...]
    namespace: str
    metric: str

    def reports(self, worker: Worker) -> Generator[Progress]:
        directory, last = Path(self.directory), self.report_steps[-1]
        directory.mkdir(parents=True, exist_ok=True)
        reached = directory / "reached"
        start = int(reached.read_text()) if reached.exists() else 0
        for step in self.report_steps:
            if step < start:
                continue
            if step > last / 2:
                ray.get(ray.get_actor("stage", namespace=self.namespace).arrive.remote(directory.name))
            reached.write_text(str(step))
            yield Progress(step, {self.metric: 1 / step, "val/kl": 1.0}, step == last)


NAN = Failing(TrialFailure("train/loss is nan by step 3"))
BUG = Failing(RuntimeError("no such thing"))
