"""Area pooling from the traced kernel to the model's kernel.

T = traced pixel, K = model pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def area_weights(traced: int, pooled: int) -> NDArray[np.float64]:
    """Weights W [K, T] with W[k, t] = the share of traced pixel t that lies in model pixel k.

    A kernel pools as `W @ kernel @ W.T`. Columns sum to one, so energy is conserved exactly; pixels on a border are
    split in proportion to the overlap, so no light is counted twice (adaptive average pooling has overlapping bins
    for 64 -> 15).
    """
    if not 1 <= pooled <= traced:
        raise ValueError(f"`1 <= pooled <= traced` must hold, but got (pooled={pooled}, traced={traced})")
    edges = np.arange(pooled + 1) * (traced / pooled)
    pixel = np.arange(traced)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(overlap, 0.0, None)
    return np.asarray(weights / weights.sum(0))
