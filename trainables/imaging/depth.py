"""Scenes with depth: kernels at several distances, and a map of how far each pixel is.

Defocus is linear in vergence, 1 / distance, so layers are even in it and pixels between two layers are mixed linearly in it.

Shape legend: B = batch, H, W = image pixels, D = layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from trainables.imaging.operators import Operator


def layer_depths(depth: Tensor, layers: int) -> Tensor:
    """Distances [D] in mm, the farthest first, even in vergence between the extremes of a map; one, if it is flat.

    Raises:
        ValueError: distances that are not negative, or no layer.
    """
    vergence = _vergence(depth)
    if layers < 1:
        raise ValueError(f"`layers >= 1` must hold, but got {layers}")
    least, most = vergence.aminmax()
    if least == most:
        return 1 / least[None]
    return 1 / torch.linspace(0, 1, max(2, layers), dtype=depth.dtype, device=depth.device).mul(most - least).add(
        least
    ).flip(0)


class DepthBlur:
    """Each pixel of the blurred image is made with the kernel of its own distance: a mixture of the two layers next to it.

    Nothing is hidden behind anything: at an edge between near and far both are spread as if the other were not there, and a pixel takes
    the blur of its own distance on either side of it. Beyond the layers the nearest one holds.

    Args:
        blurs: an operator for each layer.
        depths: [D] of the layers in mm, negative, rising or falling.
        depth: [B, 1, H, W] or [1, 1, H, W] of the pixels in mm, negative; may carry gradients.

    Raises:
        ValueError: distances that are not negative, or not as many layers as operators.
    """

    def __init__(self, blurs: Sequence[Operator], depths: Tensor, depth: Tensor) -> None:
        if len(blurs) != len(depths) or not len(blurs):
            raise ValueError(f"a distance belongs to each operator, but got {len(depths)} of {len(blurs)}")
        weights = mixture(_vergence(depths), _vergence(depth))
        self._layers = [(blur, one) for blur, one in zip(blurs, weights, strict=True) if bool((one != 0).any())]

    def __call__(self, image: Tensor) -> Tensor:
        return torch.stack([weights * blur(image) for blur, weights in self._layers]).sum(0)

    def adjoint(self, image: Tensor) -> Tensor:
        return torch.stack([blur.adjoint(weights * image) for blur, weights in self._layers]).sum(0)


def mixture(nodes: Tensor, values: Tensor) -> Tensor:
    """Weights [D, ...] of nodes [D], rising or falling, for linear interpolation at values [...]; beyond them that of the outermost is 1."""
    if len(nodes) == 1:
        return torch.ones_like(values)[None]
    if nodes[0] > nodes[-1]:
        return mixture(nodes.flip(0), values).flip(0)
    between = [(values - a) / (b - a) for a, b in pairwise(nodes)]
    rising = [torch.ones_like(values), *(one.clamp(0, 1) for one in between), torch.zeros_like(values)]
    return torch.stack([a - b for a, b in pairwise(rising)])


def _vergence(depth: Tensor) -> Tensor:
    if not bool((depth < 0).all()):
        raise ValueError("depth: distances in mm are negative, in front of the lens, everywhere")
    return 1 / depth
