"""What an image is taken to be beyond its borders.

reflect: mirrored about its outermost pixels' centres, as DeepLens has it. replicate: its outermost pixels go on. zero: black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.imaging.operators import linear

Border = Literal["reflect", "replicate", "zero"]


@dataclass(frozen=True)
class Margin:
    """So many pixels around images [..., H, W] of one size.

    Raises:
        ValueError: no such border, or a mirrored one that is wider than the image.
    """

    top: int
    bottom: int
    left: int
    right: int
    size: tuple[int, int]
    border: Border

    def __post_init__(self) -> None:
        if self.border not in get_args(Border):
            raise ValueError(f"a border is one of {', '.join(get_args(Border))}, but got {self.border!r}")
        widest = max(self.top, self.bottom), max(self.left, self.right)
        if self.border == "reflect" and any(one >= side for one, side in zip(widest, self.size, strict=True)):
            raise ValueError(
                f"a reflected border of {max(widest)} pixels is wider than the image, {self.size[0]} x {self.size[1]}; "
                "take smaller kernels or another border"
            )

    def add(self, image: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, top + H + bottom, left + W + right]."""
        return linear(self._add, self._fold, image)

    def fold(self, padded: Tensor) -> Tensor:
        """The adjoint of `add`: what fell onto the margin comes back to the pixels that it is made of."""
        return linear(self._fold, self._add, padded)

    def _add(self, image: Tensor) -> Tensor:
        mode = "constant" if self.border == "zero" else self.border
        return F.pad(image, (self.left, self.right, self.top, self.bottom), mode=mode)

    def _fold(self, padded: Tensor) -> Tensor:
        rows = self._folded(padded, 2, self.top, self.bottom)
        return self._folded(rows, 3, self.left, self.right)

    def _folded(self, values: Tensor, dim: int, before: int, after: int) -> Tensor:
        size = values.shape[dim] - before - after
        kept: Tensor = values.narrow(dim, before, size)
        if self.border == "zero":
            return kept
        first, last = values.narrow(dim, 0, before), values.narrow(dim, before + size, after)
        kept = kept.clone()
        from_first = torch.arange(before, 0, -1) if self.border == "reflect" else torch.zeros(before, dtype=torch.long)
        from_last = size - 2 - torch.arange(after) if self.border == "reflect" else torch.full((after,), size - 1)
        kept.index_add_(dim, from_first.to(values.device), first)
        return kept.index_add_(dim, from_last.to(values.device), last)
