"""Where libraries keep their caches if the home directory cannot be written to, as in containers and batch systems."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Variable -> folder of the fall-back. PyTorch's compiler keeps its own below the temporary directory anyway.
CACHES = {"NUMBA_CACHE_DIR": "numba", "MPLCONFIGDIR": "matplotlib", "TRITON_CACHE_DIR": "triton"}


def find_caches(said: Callable[[str], None]) -> None:
    """Give libraries another place if there is no home; what the user has set stays. Before they are imported.

    Args:
        said: told where it is.
    """
    home = Path(os.path.expanduser("~"))
    if os.access(home, os.W_OK | os.X_OK) or CACHES.keys() <= os.environ.keys():
        return
    place = Path(tempfile.gettempdir(), f"psf-search-{os.getuid()}")
    with suppress(OSError):
        place.mkdir(mode=0o700, exist_ok=True)
    found = place.lstat() if os.path.lexists(place) else None
    if (
        found is None or not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid()
    ):  # another's, who could put code there
        place = Path(tempfile.mkdtemp(prefix="psf-search-"))
    for variable, folder in CACHES.items():
        os.environ.setdefault(variable, str(place / folder))
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"} & os.environ.keys() and not _has_token(home):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)  # Ray would write one to the home directory
    said(f"note: the home directory {home} cannot be written to: caches go to {place} ({', '.join(CACHES)} move them)")


def _has_token(home: Path) -> bool:
    return os.access(home / ".ray" / "auth_token", os.R_OK)
