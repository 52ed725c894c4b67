"""A Fréchet distance of images in the space of their principal components: no network, no weights, the same numbers everywhere.

The FID takes features of an Inception network (Heusel et al. 2017); its values are not comparable with these.

Shape legend: N = images, D = values of an image, P = components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeplens_workers.threads import seeded

COMPONENTS = 64
FITTED_IMAGES = 2000
"""Training images of which the components are."""
SEED = 0


@dataclass(frozen=True)
class Components:
    """The first principal axes of images: `mean` [D], `directions` [D, P]."""

    mean: Tensor
    directions: Tensor

    def of(self, images: Tensor) -> Tensor:
        """Scores [N, P] of images [N, C, H, W]."""
        return (images.flatten(1) - self.mean) @ self.directions


def fit_components(images: Tensor) -> Components:
    """Of images [N, C, H, W]: 64, or as many as there are."""
    values = images.flatten(1)
    mean = values.mean(dim=0)
    count = min(COMPONENTS, *values.shape)
    with seeded(SEED):
        _, _, directions = torch.svd_lowrank((values - mean).cpu(), q=min(count + 16, *values.shape), niter=4)
    return Components(mean, directions[:, :count].to(values))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """||m_a - m_b||^2 + tr(S_a + S_b - 2 (S_a S_b)^1/2) of points [N, P], N may differ (Dowson & Landau 1982); float64."""
    (mean_a, spread_a), (mean_b, spread_b) = (_moments(one.double().cpu()) for one in (a, b))
    root = _root(spread_a)
    # tr (S_a S_b)^1/2 is that of the symmetric (S_a^1/2 S_b S_a^1/2)^1/2.
    cross = torch.linalg.eigvalsh(root @ spread_b @ root).clamp_min(0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + spread_a.trace() + spread_b.trace() - 2 * cross)


def _moments(points: Tensor) -> tuple[Tensor, Tensor]:
    mean = points.mean(dim=0)
    centred = points - mean
    return mean, centred.T @ centred / len(points)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root
