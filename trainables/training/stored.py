"""Checkpoints as files: what a directory holds, without reading it, and without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["last", "best"]
# Also what a writer leaves that is killed: a temporary file, tensors without their JSON.
FILE = re.compile(r"(?:\.\d+\.)?(last|best)-(\d{8})\.(?:json|safetensors)")


@dataclass(frozen=True, slots=True)
class Stored:
    """The files of one checkpoint."""

    kind: Kind
    step: int
    files: tuple[Path, ...]
    """In the order in which they are to be deleted: a JSON first, as without it the tensors are no checkpoint."""
    complete: bool
    """Whether there is more than what a killed writer leaves."""

    def delete(self) -> None:
        """Raises OSError: a file cannot be deleted."""
        for path in self.files:
            path.unlink(missing_ok=True)


def stored_checkpoints(directory: Path) -> list[Stored]:
    """What a directory holds by rising step; nothing if there is no such directory.

    Raises:
        OSError: it cannot be read.
    """
    found: dict[tuple[int, Kind], list[Path]] = {}
    try:
        for path in directory.iterdir():
            if (match := FILE.fullmatch(path.name)) is not None:
                found.setdefault((int(match[2]), "last" if match[1] == "last" else "best"), []).append(path)
    except FileNotFoundError:
        return []
    stored = []
    for (step, kind), paths in sorted(found.items()):
        files = tuple(sorted(paths, key=lambda path: path.suffix != ".json"))
        complete = {path.suffix for path in files if not path.name.startswith(".")} >= {".json", ".safetensors"}
        stored.append(Stored(kind, step, files, complete))
    return stored
