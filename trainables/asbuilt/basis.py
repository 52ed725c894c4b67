"""Principal components of kernels on which a mirror acts by signs: what networks see and predict in place of pixels.

Of a centred design the mirror image of a unit, left to right or top to bottom, is a unit too, as likely as the first; on a square
sensor so is the image across the diagonal. Components are found separately among the kernels' parts that are
even or odd along y and x, so that a mirror changes signs of scores and the diagonal exchanges pairs of them. A batch
of mirrored units then costs no more than one of the units themselves.

Errors far from the middle count more than near it (`pixel_weights`): components are principal, orthonormal, and found by projection
in that measure. Faint light far out is little of a kernel's norm and much of its RMS radius.

Shape legend: N = kernels, C = channel, K = kernel side in pixels, F = C K K, R = components, G = mirror images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from deeplens_workers.threads import one_thread

FITTED_KERNELS = 6000
"""Of more, components are found from as many, which takes seconds."""
MOST_COMPONENTS = 384
FAR = 0.27
"""How much more a squared error counts at the RMS radius than in the middle (docs/as-built.md, "Populations")."""
NEGLIGIBLE = 1e-6
"""Of the variance: float32 has no less, and what is found there is of no class."""
CHUNK = 1024
FLIPS = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
"""[4, 2] signs of x and y of the mirror images that every centred design has. The first is the unit itself."""
ACROSS = torch.tensor([[0.0, -1.0], [-1.0, 0.0]])
"""Where a transposed kernel's unit has its position (x, y): y points up, and rows of pixels go down."""


class Mirrors(NamedTuple):
    """The G mirror images of a unit, the first the unit itself.

    Score r of image g is `signs[g, r]` times the unit's score `order[g, r]`, at the position `turns[g]` @ (x, y).
    """

    order: Tensor
    """[G, R] int64."""
    signs: Tensor
    """[G, R]."""
    turns: Tensor
    """[G, 2, 2]."""

    def turned(self, points: Tensor, images: Tensor) -> Tensor:
        """Points [B, n, d] of units as those of their mirror images [B]: x and y are turned, distances stay."""
        places = torch.einsum("bij,bpj->bpi", self.turns[images], points[..., :2])
        return torch.cat([places, points[..., 2:]], dim=-1)

    def to(self, device: torch.device) -> Mirrors:
        return Mirrors(*(one.to(device) for one in self))


@dataclass(frozen=True)
class MirrorBasis:
    """Mean [F] and components [R, F] of kernels of unit norm, float16, the most telling first.

    `weights` [F]: of squared errors of pixels, as are the products in which components are orthonormal. `spread` [R]: standard
    deviations of the scores. `variance`: of kernels of unit norm about their mean, all of it; `weighted_variance`: the same, weighted.
    `parity` [R, 2]: 1 or -1 under flips along y and x. `partner`, `exchange` [R]: across the diagonal score r becomes
    exchange[r] * score partner[r]; None on a sensor that is not square.
    """

    mean: Tensor
    components: Tensor
    weights: Tensor
    spread: Tensor
    variance: float
    weighted_variance: float
    parity: Tensor
    partner: Tensor | None
    exchange: Tensor | None

    @classmethod
    def fit(cls, kernels: Tensor, square: bool) -> MirrorBasis:
        """At most `MOST_COMPONENTS` of kernels [N, C, K, K] on the CPU; the same bits for the same kernels.

        Args:
            square: the sensor is, so that units are mirrored across its diagonal too.
        """
        step = max(1, math.ceil(len(kernels) / FITTED_KERNELS))
        with one_thread():
            unit = torch.cat([of_unit_norm(part) for part in kernels[::step].split(CHUNK)])
            mean = _unfolded(_even_mean(unit, square), (0, 0), unit.shape[-1])
            variance, weights = _variance(unit, mean), pixel_weights(mean)
            root = weights.sqrt()
            unit, weighted_mean = unit * root, mean * root
            weighted_variance = _variance(unit, weighted_mean)
            blocks = [one for rows in (0, 1) for columns in (0, 1) for one in _blocks(unit, rows, columns, square)]
        found = sorted(
            ((float(value), block, index) for block in blocks for index, value in enumerate(block.values)),
            key=lambda one: -one[0],
        )
        vectors: list[Tensor] = []
        spread, parity, partner, exchange = [], [], [], []
        for value, block, index in found:
            pair = 2 if block.paired else 1
            if value <= NEGLIGIBLE * weighted_variance or len(vectors) + pair > MOST_COMPONENTS:
                break
            here = len(vectors)
            vector = _unfolded(block.vectors[index], block.parts, unit.shape[-1]) / root
            vectors += [vector, vector.mT][:pair]
            signs = [1 - 2 * part for part in block.parts]
            parity += [signs, signs[::-1]][:pair]
            partner += [here + 1, here] if block.paired else [here]
            exchange += [1.0] * pair if block.paired else [block.exchange]
            spread += [math.sqrt(value)] * pair
        return cls(
            mean.flatten().half(),
            torch.stack(vectors).flatten(1).half(),
            weights.expand(mean.shape).flatten(),
            torch.tensor(spread),
            variance,
            weighted_variance,
            torch.tensor(parity),
            torch.tensor(partner) if square else None,
            torch.tensor(exchange) if square else None,
        )

    def whole(self, count: int) -> int:
        """At most so many components, and no half of a pair."""
        count = min(count, len(self.components))
        if self.partner is not None and int(self.partner[count - 1]) >= count:
            return count - 1
        return count

    def scores(self, kernels: Tensor) -> Tensor:
        """[N, C, K, K] -> [N, R], in units of the kernels' norm."""
        with one_thread():
            parts = [projected(part, self.mean, self.components, self.weights) for part in kernels.split(CHUNK)]
        return torch.cat(parts)

    def noise(self, count: int) -> Tensor:
        """Standard deviations [count] of the first scores of white noise of standard deviation 1 in each pixel."""
        deviations: Tensor = torch.linalg.vector_norm(self.components[:count].float() * self.weights, dim=1)
        return deviations

    def mirrors(self, centred: bool) -> Mirrors:
        """The unit itself, and of a centred design its flips, on a square sensor also those of its image across the diagonal."""
        same = torch.arange(len(self.parity))
        order, signs, turns = [], [], []
        for across in (False, True) if self.partner is not None else (False,):
            for x, y in FLIPS:
                sign = self.parity[:, 0] ** int(y < 0) * self.parity[:, 1] ** int(x < 0)
                turn = torch.diag(torch.stack([x, y]))
                if across:
                    assert self.exchange is not None
                    sign, turn = sign * self.exchange, turn @ ACROSS
                order.append(self.partner if across and self.partner is not None else same)
                signs.append(sign.float())
                turns.append(turn)
        images = slice(None if centred else 1)
        return Mirrors(*(torch.stack(one[images]) for one in (order, signs, turns)))


def flipped(kernels: Tensor, images: Tensor) -> Tensor:
    """Kernels [B, ..., K, K] of units as those of their images [B] of `FLIPS`."""
    x, y = (FLIPS.to(kernels.device)[images] < 0).view(-1, *[1] * (kernels.ndim - 1), 2).unbind(-1)
    kernels = torch.where(x, kernels.flip(-1), kernels)
    return torch.where(y, kernels.flip(-2), kernels)


def projected(kernels: Tensor, mean: Tensor, components: Tensor, weights: Tensor) -> Tensor:
    """Scores [N, R] of kernels [N, C, K, K] in components [R, F] that are orthonormal by weights [F]."""
    apart = of_unit_norm(kernels).flatten(1) - mean.to(kernels)
    scores: Tensor = (apart * weights.to(kernels)) @ components.to(kernels).mT
    return scores


def pixel_weights(mean: Tensor) -> Tensor:
    """[K, K] 1 + `FAR` (r / R)^2, r from the window's middle and R the RMS radius about it of the mean kernel [C, K, K]."""
    axis = torch.arange(mean.shape[-1]) - (mean.shape[-1] - 1) / 2
    squared = axis.square() + axis.square()[:, None]
    light = mean.sum(dim=0)
    return 1 + FAR * squared * light.sum() / (light * squared).sum()


def of_unit_norm(kernels: Tensor) -> Tensor:
    """Kernels [N, C, K, K] over their norms, all channels together."""
    norm: Tensor = torch.linalg.vector_norm(kernels, dim=(1, 2, 3), keepdim=True)
    return kernels / norm


class _Block(NamedTuple):
    """Components of one class of kernels: `values` [V] variances, `vectors` [V, C, rows, columns] of folded kernels."""

    values: Tensor
    vectors: Tensor
    parts: tuple[int, int]
    """Whether the kernels are odd along y, along x."""
    exchange: float = 1.0
    """What becomes of a score across the diagonal."""
    paired: bool = False
    """Each component's image across the diagonal is one too."""


def _variance(unit: Tensor, mean: Tensor) -> float:
    return float((unit.double() - mean.double()).square().flatten(1).sum(1).mean())


def _blocks(unit: Tensor, rows: int, columns: int, square: bool) -> list[_Block]:
    folded = _folded(unit, rows, columns)
    parts = (rows, columns)
    if not square:
        return [_principal(_centred(folded, parts), parts)]
    if rows != columns:
        if rows > columns:  # the images of the other mixed block
            return []
        both = torch.cat([folded, _folded(unit, columns, rows).mT])
        return [_principal(both, parts)._replace(paired=True)]
    same, turned = (folded + folded.mT) / 2, (folded - folded.mT) / 2
    return [_principal(_centred(same, parts), parts), _principal(turned, parts)._replace(exchange=-1.0)]


def _centred(folded: Tensor, parts: tuple[int, int]) -> Tensor:
    """Of kernels and their mirror images together only the even part has a mean."""
    return folded - folded.mean(dim=0) if parts == (0, 0) else folded


def _even_mean(unit: Tensor, square: bool) -> Tensor:
    mean = _folded(unit, 0, 0).mean(dim=0)
    return (mean + mean.mT) / 2 if square else mean


def _principal(folded: Tensor, parts: tuple[int, int]) -> _Block:
    flat = folded.flatten(1)
    values, vectors = torch.linalg.eigh((flat.mT @ flat / len(flat)).double())
    # A vector's sign is nobody's choice: its largest element is positive.
    columns = torch.arange(vectors.shape[1])
    vectors = vectors * vectors[vectors.abs().argmax(dim=0), columns].sign()
    kept = slice(-min(MOST_COMPONENTS, len(values)), None)
    return _Block(
        values[kept].flip(0), vectors[:, kept].flip(1).mT.float().reshape(-1, *folded.shape[1:]).contiguous(), parts
    )


def _fold(side: int, odd: int) -> Tensor:
    """Orthonormal rows [h, K]: the even vectors of a line of pixels, or the odd ones."""
    half = side // 2
    eye = torch.eye(side)
    rows = (eye[:half] + (1 - 2 * odd) * eye.flip(0)[:half]) / math.sqrt(2)
    return torch.cat([rows, eye[half : half + 1]]) if side % 2 and not odd else rows


def _folded(kernels: Tensor, rows: int, columns: int) -> Tensor:
    """The part of kernels [..., K, K] that is odd or even along y and x: [..., h, w]."""
    side = kernels.shape[-1]
    return _fold(side, rows) @ kernels @ _fold(side, columns).mT


def _unfolded(folded: Tensor, parts: tuple[int, int], side: int) -> Tensor:
    """The inverse of `_folded`: [..., h, w] -> [..., K, K]."""
    return _fold(side, parts[0]).mT @ folded @ _fold(side, parts[1])
