"""A lane's side of the stream: fresh kernels put in the place of old ones on the lane's device, between steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.actor import ActorHandle

from trainables.data import PsfSplit, select

POLL_STEPS = 8
"""Steps from one question for fresh kernels to the next."""


class StreamReader:
    """A copy of the stream's buffer on a device, as a train set whose kernels change.

    Each step draws from the copy, so no step waits for a renderer: questions are asked every few steps, and their answers
    taken when they have come.

    Args:
        stream: a `KernelStream` whose buffer is full.
        conditions: those of `COORDINATES` that the points shall have.
        device: where the copy lies.
    """

    def __init__(self, stream: ActorHandle, conditions: Sequence[str], device: str | torch.device = "cpu") -> None:
        self._stream, self._conditions, self._device = stream, tuple(conditions), device
        chunks = ray.get(stream.since.remote(0, 0))
        self._slots = len(chunks)
        self.train = PsfSplit(
            torch.cat([self._to_device(chunk.kernels) for chunk in chunks]),
            torch.cat([self._to_device(select(chunk.points, self._conditions)) for chunk in chunks]),
        )
        self._newest = chunks[-1].number
        self._oldest = 0
        """The slot whose turn is next."""
        self._answer: ray.ObjectRef | None = None
        self._steps = self._drawn = 0
        self._seen = (0, 0)
        self.drawn = 0
        self.fresh = 0
        """Kernels put in the place of old ones so far, of `drawn`."""

    def refresh(self, drawn: int) -> None:
        """Between two steps: take what has come, ask for more. `drawn`: kernels that the step drew."""
        self.drawn += drawn
        self._drawn += drawn
        self._steps += 1
        if self._steps % POLL_STEPS:
            return
        if self._answer is not None:
            if not ray.wait([self._answer], timeout=0)[0]:
                return
            for chunk in ray.get(self._answer):
                self._put(chunk)
        self._answer = self._stream.since.remote(self._newest, self._drawn)
        self._drawn = 0

    def fresh_share(self) -> float:
        """Fresh kernels per kernel drawn since the last call: 1 / `Stream.reuse` if the renderers keep up."""
        fresh, drawn = self._seen
        self._seen = (self.fresh, self.drawn)
        return (self.fresh - fresh) / max(1, self.drawn - drawn)

    def _put(self, chunk: Any) -> None:
        size = len(chunk.points)
        place = slice(self._oldest * size, (self._oldest + 1) * size)
        self.train.kernels[place] = self._to_device(chunk.kernels)
        self.train.points[place] = self._to_device(select(chunk.points, self._conditions))
        self._oldest = (self._oldest + 1) % self._slots
        self._newest = chunk.number
        self.fresh += size

    def _to_device(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)  # what Ray delivers is read-only
