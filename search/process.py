"""Starting Ray for a search."""

from __future__ import annotations

import logging
import os
from typing import Any


def start_ray(address: str = "local", **options: Any) -> Any:
    """`ray.init` with what lanes need in the environment, and without Ray's own lines; "local": never a Ray that runs already."""
    import ray

    from trainables.lanes.lanes import ray_environment

    os.environ.update(ray_environment())
    return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
