"""What a system gives a report's explorer: a description of its model that runs without torch, and arrays to show beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layer = dict[str, Any]
"""One layer as plain JSON: `op`, its numbers, and `weights`, names of tensors of the exported model or of the arrays."""

MOST_NUMBERS = 9_900_000
"""What a page of 20 MB can hold of a model, at 12 bits a number. Of one with more, encoder included, a system gives kernels on a grid too."""


@dataclass(frozen=True)
class Explorer:
    """Content of `explorer.safetensors` of a run.

    Args:
        view: which view of `results/explorer/` shows it.
        description: plain JSON; each view says what it reads.
        arrays: by name; float32 or uint8.
    """

    view: Literal["field", "images"]
    description: Mapping[str, Any]
    arrays: Mapping[str, NDArray[np.float32] | NDArray[np.uint8]]
