"""Principal components of kernels: what a network predicts in place of their pixels.

The kernels of a lens lie near a space of some hundred dimensions, whatever their pixels are. A network that predicts scores
takes a small part of the work of one that predicts pixels, and its errors are those of the kernels: components are
orthonormal.

Shape legend: N = kernels, B = batch, C = channel, M = samples along a side, F = samples kept of a kernel, R = components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeplens_workers.threads import one_thread, seeded

FITTED_KERNELS = 1500
"""Of more, components are found from as many, which takes seconds."""
MOST_COMPONENTS = 256
CHUNK = 256
SEED = 0


@dataclass(frozen=True)
class Components:
    """Mean [F] and components [R, F] of kernels of unit norm, float16, the most telling first.

    `scale`: standard deviation of the first score; scores are in its units.
    `mirrored`: kernels are of points on the +x axis, from where a centred lens is the same above and below: F is of upper
        halves.
    """

    mean: Tensor
    components: Tensor
    scale: float
    mirrored: bool

    @classmethod
    def fit(cls, kernels: Tensor, mirrored: bool) -> Components:
        """At most `MOST_COMPONENTS` of kernels [N, C, M, M] on the CPU; the same bits for the same kernels."""
        with seeded(SEED), one_thread():  # in this order: another thread must not set the number back meanwhile
            chosen = torch.randperm(len(kernels))[:FITTED_KERNELS].sort().values
            samples = torch.cat([kept(kernels[part], mirrored) for part in chosen.split(CHUNK)])
            mean = samples.mean(dim=0)
            samples -= mean
            count = max(1, min(MOST_COMPONENTS, len(samples) - 1, samples.shape[1]))
            _, spread, directions = torch.svd_lowrank(samples, count, niter=1)
        scale = float(spread[0] / len(samples) ** 0.5)
        return cls(mean.half(), directions.T.contiguous().half(), scale, mirrored)

    def scores(self, kernels: Tensor) -> Tensor:
        """[N, C, M, M] -> [N, R]."""
        mean, components = self.mean.to(kernels), self.components.to(kernels)
        with one_thread():
            parts = [(kept(part, self.mirrored) - mean) @ components.T for part in kernels.split(CHUNK)]
        return torch.cat(parts) / self.scale


def expand(scores: Tensor, mean: Tensor, components: Tensor, channels: int, mirrored: bool) -> Tensor:
    """Scores [B, R], times their scale, -> kernels [B, C, M, M], in units of their norm."""
    return unfolded(mean.to(scores) + scores @ components.to(scores), channels, mirrored)


def unfolded(samples: Tensor, channels: int, mirrored: bool) -> Tensor:
    """[B, F] -> [B, C, M, M], the inverse of `kept` but for the norm."""
    side = round((samples.shape[1] // channels * (1 + mirrored)) ** 0.5)
    kernels = samples.unflatten(1, (channels, -1, side))
    return torch.cat([kernels, kernels.flip(-2)], dim=-2) if mirrored else kernels


def kept(kernels: Tensor, mirrored: bool) -> Tensor:
    """What is kept of kernels, of unit norm: [N, C, M, M] -> [N, F]."""
    if mirrored:
        half = kernels.shape[-2] // 2
        kernels = (kernels[..., :half, :] + kernels[..., half:, :].flip(-2)) / 2
    samples = kernels.flatten(1)
    size: Tensor = torch.linalg.vector_norm(samples, dim=1, keepdim=True)
    return samples / size
