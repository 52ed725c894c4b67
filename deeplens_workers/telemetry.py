"""Ray metrics of rendering, for the Ray dashboard and Prometheus: counters since each process' start."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

DESCRIPTIONS = {
    "psf_search_rays_traced": "rays traced through lenses",
    "psf_search_psfs_rendered": "kernels rendered, one for each field point and channel",
    "psf_search_cache_hits": "kernels found in the cache",
}


def count(name: str, by: int) -> None:
    """Add to a counter of `DESCRIPTIONS`; nothing where Ray does not run."""
    ray = sys.modules.get("ray")
    if by > 0 and ray is not None and ray.is_initialized():
        _counter(name).inc(by)


@cache
def _counter(name: str) -> Any:
    from ray.util.metrics import Counter

    return Counter(name, DESCRIPTIONS[name])


def rates(psfs: int, rays: int, seconds: float) -> str:
    """How fast rendering goes."""
    return f"{psfs / seconds:,.0f} PSFs/s, {rays / seconds:.2g} rays/s"
