"""Positions in the field."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def centre_to_corner(points: NDArray[np.floating], count: int = 6) -> NDArray[np.intp]:
    """Indices of `count` field points whose distance from the centre rises in even steps, near the diagonal.

    Args:
        points: [N, 2 or more], normalised x and y first; with fewer than `count` all of them are chosen.
    """
    count = min(count, len(points))
    steps = np.linspace(0, min(1.0, np.abs(points[:, :2]).max()), count)
    chosen: list[int] = []
    for step in steps:
        distance = np.hypot(points[:, 0] - step, points[:, 1] - step)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return np.array(chosen)
