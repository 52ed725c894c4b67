"""Everything random is seeded from the run's one seed, by name."""

from __future__ import annotations

import hashlib

LARGEST_SEED = 2**31 - 1
"""Of a user's: every generator takes it."""


def named_seed(seed: int, *names: str | int) -> int:
    """A 32-bit seed for one purpose, e.g. `named_seed(study.seed, "trial", 7)`; different names are independent.

    32 bits because torch's CPU generator ignores the rest.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
