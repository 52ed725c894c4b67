"""What a collection of images gives: its files, and of these the disjoint sets. Nothing is downloaded, nothing unpickled.

Shape legend: N = images, C = channel, H, W = pixels, R = rectangles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spaces.errors import SpaceError
from trainables.images.image_data import ImageData

LEAST = 2
"""Images of a set: an interval needs as many."""


class Labelled(NamedTuple):
    """Images [N, C, H, W] of grey levels 0 to 255, and their classes [N].

    A training set may be photographs that lie side by side in one image, and the `windows` [R, 4] in which crops are to lie:
    top, left, height and width in pixels. Classes are the windows' then.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    windows: NDArray[np.int32] | None = None

    def take(self, index: NDArray[np.int64] | slice) -> Labelled:
        """Some of them."""
        return Labelled(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Layout:
    """What is made of a picture: `channels` (1: luminance) of `px` x `px` pixels, from its centre.

    Args:
        crop: side of the square that is kept, in the picture's own pixels; None: the largest there is.
        size: width and height that every picture has to have; None: any.
    """

    px: int
    channels: int
    crop: int | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Pictures:
    """Files of a set, not yet decoded. If `whole`, one that cannot be read is an error and not left out."""

    files: tuple[Path, ...]
    layout: Layout
    whole: bool = False


class ImageSource(ABC):
    """One collection of images."""

    seeded = False
    """Its split depends on a seed."""
    named = False
    """Its split depends on the names of the files."""

    @abstractmethod
    def find(self, root: str | None) -> list[Path]:
        """Its files, in a fixed order.

        Raises:
            SpaceError: they are not there: in one line where they were looked for, and what to do.
        """

    @abstractmethod
    def read(self, files: list[Path], data: ImageData, seed: int) -> Mapping[str, Labelled | Pictures]:
        """The disjoint sets train, validation and test.

        Raises:
            SpaceError: a file is damaged, or is none of its kind.
        """


def packaged(package: str, names: tuple[str, ...], images: str, install: str) -> list[Path]:
    """Files of an installed package by the ends of their paths, in that order. The package is not imported.

    Raises:
        SpaceError: it is not installed, or lacks one: how to install it.
    """
    try:
        there = distribution(package).files or []
    except PackageNotFoundError:
        there = []
    ends = {path.as_posix(): path for path in there}
    found = []
    for name in names:
        path = next((one for full, one in ends.items() if full.endswith(name)), None)
        place = None if path is None else Path(str(path.locate()))
        if place is None or not place.is_file():
            missing = f"is not installed; run `{install}`" if not there else f"lacks {name}"
            raise SpaceError(
                f"data.images: {images} comes with the package {package}, which {missing}, or name your own files: "
                "data.images=folder data.root=DIR"
            )
        found.append(place)
    return found


def missing_files(title: str, places: list[Path], names: list[str], hint: str = "") -> SpaceError:
    """That a collection's files are in none of some places."""
    where = ", ".join(str(place) for place in places)
    return SpaceError(
        f"data.root: the files of {title} are in none of {where}; put {', '.join(names)} there, nothing is downloaded{hint}"
    )
