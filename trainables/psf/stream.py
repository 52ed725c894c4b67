"""A lane's side of the stream: fresh kernels put in the place of old ones on the lane's device, between steps."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.actor import ActorHandle

from deeplens_workers.stream import Chunk
from trainables.psf.data import PsfSplit, select

logger = logging.getLogger(__name__)

POLL_STEPS = 32
"""Steps from one question for fresh kernels to the next."""


class StreamReader:
    """A copy of the stream's buffer on a device, as a train set whose kernels change.

    Each step draws from the copy, so no step waits for a renderer: questions are asked every few steps, and their answers
    taken when they have come. A stream that has ended leaves the copy as it is.

    Args:
        stream: a `KernelStream`; the constructor waits until its buffer is full.
        conditions: those of `COORDINATES` that the points shall have.
        device: where the copy lies.
    """

    def __init__(self, stream: ActorHandle, conditions: Sequence[str], device: str | torch.device = "cpu") -> None:
        self._stream, self._conditions, self._device = stream, tuple(conditions), device
        self._name = uuid.uuid4().hex
        ray.get(stream.wait_full.remote())
        chunks: list[Chunk] = ray.get(stream.since.remote(0, self._name, 0))
        self._slots = len(chunks)
        self.train = PsfSplit(
            torch.cat([self._to_device(chunk.kernels) for chunk in chunks]),
            torch.cat([self._to_device(select(chunk.points, self._conditions)) for chunk in chunks]),
        )
        self.on_change: Callable[[slice], None] = lambda place: None
        """Called with each place of `train` whose kernels have changed."""
        self._newest = chunks[-1].number
        self._oldest = 0
        """The slot whose turn is next."""
        self._answer: ray.ObjectRef | None = None
        self._ended = False
        self._steps = self._drawn = 0
        self.drawn = self.fresh = 0
        """Kernels drawn so far, and those put in the place of old ones."""
        self._told = (0, 0)

    def refresh(self, drawn: int) -> None:
        """Between two steps: take what has come, ask for more. `drawn`: kernels that the step drew, on all ranks."""
        self.drawn += drawn
        self._drawn += drawn
        self._steps += 1
        if self._ended or self._steps % POLL_STEPS:
            return
        try:
            if self._answer is not None:
                if not ray.wait([self._answer], timeout=0)[0]:
                    return
                for chunk in ray.get(self._answer):
                    self._put(chunk)
            self._answer = self._stream.since.remote(self._newest, self._name, self._drawn)
        except ray.exceptions.RayError:
            logger.exception("no more fresh kernels: training goes on with those there are")
            self._ended = True
        self._drawn = 0

    def fresh_share(self) -> float | None:
        """Fresh kernels per kernel drawn since the last call: 1 / `Stream.reuse` if the renderers keep up. None: none drawn."""
        (fresh, drawn), self._told = self._told, (self.fresh, self.drawn)
        return (self.fresh - fresh) / (self.drawn - drawn) if self.drawn > drawn else None

    def _put(self, chunk: Chunk) -> None:
        size = len(chunk.points)
        place = slice(self._oldest * size, (self._oldest + 1) * size)
        self._copy(chunk.kernels, self.train.kernels[place])
        self.train.points[place] = self._to_device(select(chunk.points, self._conditions))
        self.on_change(place)
        self._oldest = (self._oldest + 1) % self._slots
        self._newest = chunk.number
        self.fresh += size

    def _copy(self, array: NDArray[np.float32], to: torch.Tensor) -> None:
        """Of a chunk's many megabytes there is no second copy on the CPU."""
        if to.device.type == "cpu":
            np.copyto(to.numpy(), array)
        else:
            to.copy_(self._to_device(array))

    def _to_device(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)  # what Ray delivers is read-only
