"""Crops of photographs that the package scikit-image carries. The package is not imported, and its downloads are not touched.

Shape legend: C = channel, H, W = pixels, R = rectangles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from spaces.errors import SpaceError
from trainables.images.image_data import ImageData
from trainables.images.source import ImageSource, Labelled, packaged

# motorcycle_right is left out: it shows what motorcycle_left does, so crops of the one would be in both sides of the split.
COLOURED = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
GREY = (
    *COLOURED,
    "brick.png",
    "camera.png",
    "cell.png",
    "clock_motion.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "page.png",
)
EVERY, TEST, VALIDATION = 10, 3, 4
"""Of every ten columns of blocks, counted on through all photographs, one is test and the next one validation."""


@dataclass(frozen=True)
class Photographs(ImageSource):
    """Square crops. Held-out ones are blocks of whole columns; training crops lie anywhere else, and so have none of their pixels."""

    names: tuple[str, ...]

    def find(self, root: str | None) -> list[Path]:
        ends = tuple(f"skimage/data/{name}" for name in self.names)
        return packaged("scikit-image", ends, "patches", "pip install scikit-image")

    def read(self, files: list[Path], data: ImageData, seed: int) -> dict[str, Labelled]:
        pictures = [_opened(path, data.colours) for path in files]
        blocks: dict[str, list[Any]] = {"validation": [], "test": []}
        labels: dict[str, list[int]] = {"validation": [], "test": []}
        strips: list[NDArray[np.uint8]] = []
        owners: list[int] = []
        first = 0
        for owner, picture in enumerate(pictures):
            columns = [column_role(first + column) for column in range(picture.shape[2] // data.side)]
            first += len(columns)
            for column, role in enumerate(columns):
                if role != "train":
                    found = column_of_blocks(picture, column, data.side)
                    blocks[role] += found
                    labels[role] += [owner] * len(found)
            new = training_strips(picture, columns, data.side)
            strips += new
            owners += [owner] * len(new)
        if not strips or not all(blocks.values()):
            raise SpaceError(f"data.px: {data.side} pixels are too many for these photographs; at most a few hundred")
        held_out = {role: Labelled(np.stack(found), np.array(labels[role], np.uint8)) for role, found in blocks.items()}
        return {"train": _side_by_side(strips, owners), **held_out}


def column_role(number: int) -> str:
    """The set of a column of blocks, by its number among those of all photographs."""
    return {TEST: "test", VALIDATION: "validation"}.get(number % EVERY, "train")


def column_of_blocks(picture: NDArray[np.uint8], column: int, px: int) -> list[NDArray[np.uint8]]:
    """The blocks [C, px, px] of a column of a picture [C, H, W], from the top; what is left at the bottom is in none."""
    left = column * px
    tops = range(0, picture.shape[1] - px + 1, px)
    return [picture[:, top : top + px, left : left + px] for top in tops]


def training_strips(picture: NDArray[np.uint8], columns: list[str], px: int) -> list[NDArray[np.uint8]]:
    """What is between the held-out columns of a picture [C, H, W], with what is left at the right of the last one."""
    strips = []
    for role, run in groupby(range(len(columns)), columns.__getitem__):
        numbers = list(run)
        right = picture.shape[2] if numbers[-1] == len(columns) - 1 else (numbers[-1] + 1) * px
        if role == "train" and picture.shape[1] >= px:
            strips.append(picture[:, :, numbers[0] * px : right])
    return strips


def _side_by_side(strips: list[NDArray[np.uint8]], owners: list[int]) -> Labelled:
    """Strips [C, h, w] in one image, black where a strip is lower than the highest."""
    channels, height = strips[0].shape[0], max(strip.shape[1] for strip in strips)
    canvas = np.zeros((1, channels, height, sum(strip.shape[2] for strip in strips)), np.uint8)
    windows, left = [], 0
    for strip in strips:
        canvas[0, :, : strip.shape[1], left : left + strip.shape[2]] = strip
        windows.append((0, left, *strip.shape[1:]))
        left += strip.shape[2]
    return Labelled(canvas, np.array(owners, np.uint8), np.array(windows, np.int32))


def _opened(path: Path, channels: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise SpaceError(f"{path}: cannot be read: {error}") from None
    return np.ascontiguousarray(np.atleast_3d(picture).transpose(2, 0, 1))
