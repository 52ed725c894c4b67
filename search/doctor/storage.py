"""Whether a directory is the same one everywhere: the driver and every node leave a file there, and look for each other's."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from search.doctor.facts import RAYS, SHM, Meeting

ALONE = "driver"
"""In the place of a node's id."""


class Storage:
    """The driver's files in some directories, with a lock of each; gone at the end, and so are the nodes' that it sees (a context manager).

    Args:
        places: directory by option. Of one to be, the nearest parent is taken: nothing is made.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = {option: _nearest(path.absolute()) for option, path in places.items()}
        self._name = f".psf-search-doctor-{secrets.token_hex(8)}"
        self._files: dict[str, Path] = {}
        self._held = ExitStack()

    def __enter__(self) -> Storage:
        for option, directory in self._places.items():
            file = directory / f"{self._name}{option}"
            with suppress(OSError):  # which the driver's own facts tell of
                held = self._held.enter_context(file.open("x"))
                self._files[option] = file
                held.write(self._name)
                held.flush()
                os.fsync(held.fileno())  # a file system of several machines may keep it here until it is closed
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def meetings(self, node: str) -> dict[str, Meeting]:
        """What a node of that id is asked to do."""
        return {
            option: Meeting(
                directory=str(directory),
                driver=self._files[option].name if option in self._files else None,
                own=self._own(option, node).name,
                text=self._name,
            )
            for option, directory in self._places.items()
        }

    @property
    def directories(self) -> dict[str, str]:
        """Where it looks, by option."""
        return {option: str(directory) for option, directory in self._places.items()}

    def alone(self) -> dict[str, Meeting]:
        """The same for the driver itself, which has nobody to meet."""
        return {option: replace(one, driver=None) for option, one in self.meetings(ALONE).items()}

    def files(self, node: str) -> list[Path]:
        """Those that a node was asked to write."""
        return [self._own(option, node) for option in self._places]

    def seen(self, node: str) -> dict[str, bool]:
        """Which files of a node's the driver sees, by option."""
        return {option: _text(self._own(option, node)) == self._name for option in self._places}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()
        for directory in self._places.values():
            with suppress(OSError):
                for file in directory.glob(f"{self._name}*"):
                    file.unlink(missing_ok=True)

    def _own(self, option: str, node: str) -> Path:
        return self._places[option] / f"{self._name}{option}-{node}"


def disks(ray: str, storage: Storage) -> dict[str, str]:
    """Directories whose space counts, by name. `ray`: where Ray has its files."""
    return {RAYS: ray, "/tmp": "/tmp", SHM: SHM} | storage.directories


def _nearest(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if os.path.exists(one))


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text()
    return None
