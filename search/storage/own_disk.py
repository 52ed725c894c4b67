"""A directory on the driver's own disk, for working copies of what is kept elsewhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

OWN_DISK = "PSF_SEARCH_STUDY_DIR"
"""Environment variable that names it."""


def own_disk() -> Path:
    """The directory, which need not be there."""
    named = os.environ.get(OWN_DISK)
    return Path(named).absolute() if named else Path(tempfile.gettempdir(), f"psf-search-{os.getuid()}")
