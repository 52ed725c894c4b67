"""Stand-in of the data section of `cvae_asbuilt`."""

from __future__ import annotations

from spaces.system import DataSection


class AsBuiltData(DataSection):
    """Nothing yet."""
