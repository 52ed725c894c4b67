"""CelebA (Liu et al. 2015), aligned and cropped by its makers: 202,599 faces of 178 x 218, in its native sets."""

from __future__ import annotations

from pathlib import Path

from spaces.errors import SpaceError
from trainables.images.image_data import ImageData
from trainables.images.source import ImageSource, Layout, Pictures, missing_files

PARTITION, FOLDER = "list_eval_partition.txt", "img_align_celeba"
SETS = ("train", "validation", "test")
"""In the order of the partition file's numbers."""
SIZE, CROP = (178, 218), 148
"""The crop is the square of 148 in the middle (Larsen et al. 2016 and most VAEs since). NVAE's lies 5 px lower, so its values differ."""


class CelebA(ImageSource):
    """Faces in colour."""

    named = True

    def find(self, root: str | None) -> list[Path]:
        assert root is not None
        places = [Path(root) / "celeba", Path(root)]
        place = next((one for one in places if (one / PARTITION).is_file() and (one / FOLDER).is_dir()), None)
        if place is None:
            raise missing_files("CelebA", places, [PARTITION, f"{FOLDER}/"])
        names = [name for of_set in partition(place / PARTITION).values() for name in of_set]
        there = {one.name for one in (place / FOLDER).iterdir()}
        if absent := [name for name in names if name not in there]:
            raise SpaceError(
                f"{place / FOLDER}: {len(absent):,} of the {len(names):,} images that {PARTITION} lists are not there; "
                f"the first: {absent[0]}"
            )
        return [place / PARTITION, *(place / FOLDER / name for name in names)]

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Pictures]:
        layout = Layout(data.side, data.colours, CROP, SIZE)
        folder = files[0].parent / FOLDER
        return {
            name: Pictures(tuple(folder / one for one in names), layout, whole=True)
            for name, names in partition(files[0]).items()
        }


def partition(path: Path) -> dict[str, list[str]]:
    """The files of each set, as `list_eval_partition.txt` has them: a name and 0, 1 or 2 on each line.

    Raises:
        SpaceError: a line is not so, a name is there twice, or a set is empty.
    """
    found: dict[str, list[str]] = {name: [] for name in SETS}
    seen: set[str] = set()
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        match line.split():
            case [name, ("0" | "1" | "2") as which] if name not in seen and Path(name).name == name:
                found[SETS[int(which)]].append(name)
                seen.add(name)
            case []:
                continue
            case _:
                raise SpaceError(
                    f"{path}: line {number}: expected a new file name and 0 (train), 1 (validation) or 2 (test), "
                    f"but got {line[:60]!r}"
                )
    if empty := [name for name, names in found.items() if not names]:
        raise SpaceError(f"{path}: it has no image for {' and '.join(empty)}")
    return found
