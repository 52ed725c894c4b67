"""A folder of the user's own pictures, of any size and kind, in subfolders or not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from spaces.errors import SpaceError
from trainables.images.image_data import ImageData
from trainables.images.source import LEAST, ImageSource, Layout, Pictures

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SETS = ("train", "validation", "test")
EVERY, TEST, VALIDATION = 10, 0, 1
"""Of ten pictures one is test and one validation, on average."""


class Folder(ImageSource):
    """Pictures. The subfolders train, validation and test are the sets; without them the hash of a file's name decides.

    The name is that below the folder, with `/` between its parts. So a picture stays in its set when others come or go.
    """

    named = True

    def find(self, root: str | None) -> list[Path]:
        assert root is not None
        folder = Path(root)
        if not folder.is_dir():
            raise SpaceError(f"data.root: no folder {folder}")
        found = sorted(_pictures(folder))
        if not found:
            raise SpaceError(
                f"data.root: no picture is in {folder} or below it; files end in {', '.join(SUFFIXES)}, and nothing is downloaded"
            )
        split(found, folder)
        return found

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Pictures]:
        assert data.root is not None
        layout = Layout(data.side, data.colours)
        return {name: Pictures(tuple(paths), layout) for name, paths in split(files, Path(data.root)).items()}


def split(files: list[Path], folder: Path) -> dict[str, list[Path]]:
    """The files of each set.

    Raises:
        SpaceError: some but not all of the three subfolders are there, files lie beside them, or a set has fewer than 2.
    """
    given = [name for name in SETS if (folder / name).is_dir()]
    if given and len(given) < len(SETS):
        missing = [name for name in SETS if name not in given]
        raise SpaceError(
            f"data.root: {folder} has the subfolder {given[0]} but not {' and '.join(missing)}; make all three, or name none so"
        )
    found: dict[str, list[Path]] = {name: [] for name in SETS}
    for path in files:
        name = path.relative_to(folder)
        which = name.parts[0] if given else set_of(name.as_posix())
        if which not in found:
            raise SpaceError(f"data.root: {path} lies beside the subfolders {', '.join(SETS)}, in none of them")
        found[which].append(path)
    if few := [name for name, paths in found.items() if len(paths) < LEAST]:
        counts = ", ".join(f"{len(paths):,} {name}" for name, paths in found.items())
        advice = "" if given else "; with so few, sort them into subfolders train, validation and test"
        raise SpaceError(
            f"data.root: {folder} has {counts} pictures, which are too few for {' and '.join(few)}{advice}"
        )
    return found


def set_of(name: str) -> str:
    """The set of a picture by the hash of its name."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % EVERY
    return {TEST: "test", VALIDATION: "validation"}.get(number, "train")


def _pictures(folder: Path) -> list[Path]:
    """Files that end as pictures do; hidden ones, and those in hidden folders, are left alone."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place) / name for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)]
    return found
