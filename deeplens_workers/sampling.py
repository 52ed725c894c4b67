"""Quasi-random points: which rays stand for all."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.splat import disc_points

Array = NDArray[np.float64]
BITS = 30  # of torch's Sobol points


@lru_cache(maxsize=32)
def sobol(count: int) -> NDArray[np.uint32]:
    """The first `count` points [count, 2] of a Sobol sequence, as fractions of 2^32; the sequence is the same for all.

    Scrambled once (Owen-type linear matrix scrambling). With a random digital shift, `sobol(n) ^ scramble(...)`, any of
    its uses is an unbiased sample that stays as even. Powers of two keep it balanced.
    """
    import torch

    points = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(count, dtype=torch.float64).numpy()
    shifted = np.left_shift((points * 2**BITS).astype(np.uint32), np.uint32(32 - BITS))
    shifted.flags.writeable = False
    return np.asarray(shifted)


def scramble(*identity: float) -> NDArray[np.uint32]:
    """Digital shift [2] that depends on nothing but the arguments."""
    key = np.array(identity, dtype=np.float64) + 0.0  # + 0.0 makes -0.0 and 0.0 the same
    return np.frombuffer(hashlib.sha256(key.tobytes()).digest()[:8], dtype=np.uint32)


class PupilSamples:
    """Pupil points of one field point; all its wavelengths share them.

    Measured on the triplet, relative L2 noise of 15 px kernels pooled from 64: 0.39 % with 2048 points, 0.17 % with 4096,
    0.08 % with 8192, where pseudo-random points leave 3.5 % (Owen, "Scrambled net variance for integrals of smooth
    functions", 1997).
    """

    def __init__(self, seed: int, point: Array) -> None:
        self._identity = (seed, *point)
        self._drawn: dict[tuple[int, int, int], NDArray[np.float32]] = {}

    def __call__(self, stream: int, first: int, last: int) -> NDArray[np.float32]:
        """Points [last - first, 2] float32 of the unit disc, of an independent sequence for each `stream`."""
        wanted = (stream, first, last)
        if wanted not in self._drawn:
            self._drawn[wanted] = disc_points(sobol(last)[first:], scramble(*self._identity, stream))
        return self._drawn[wanted]
