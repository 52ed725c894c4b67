"""Kernels are cut out of a picture of pinholes or stars: one window around each centre.

Pictures are upright, as they are shown: row 0 is the top, which is where y is +1. Column 0, row 0 is the middle of the first pixel.

Shape legend: H, W = rows and columns of the picture, C = colours, red first, n = pinholes, K = kernel side in pixels.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplens_workers.lens_data import COORDINATES
from deeplens_workers.measured import EXPOSE_LESS, Measured, saturated
from spaces.errors import SpaceError

SUFFIXES = (".png", ".tif", ".tiff")
COLUMNS, DISTANCES = ("column", "row", "x", "y"), COORDINATES[2:]


class Centre(NamedTuple):
    """A pinhole's place in the picture, in pixels, and in the field, x right and y up in [-1, 1]; its line in the file; and its
    distances of `DISTANCES`, if the file gives them."""

    column: float
    row: float
    x: float
    y: float
    line: int
    distances: dict[str, float]


def read_image(path: Path) -> NDArray[Any]:
    """A PNG or TIFF of 8 or 16 bits per colour, grey or RGB, as an array [H, W, C] of the file's type; C is 1 or 3.

    Raises:
        SpaceError: there is no such file, or it is no such picture.
    """
    if not path.is_file():
        raise SpaceError(f"{path}: no such file")
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise SpaceError(f"{path}: cannot be read as a picture")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    # OpenCV has blue first, and an alpha channel last.
    return np.asarray(picture[:, :, 2::-1] if picture.shape[2] >= 3 else picture[:, :, :1])


def read_centres(path: Path) -> list[Centre]:
    """Centres of a CSV file whose header has `column,row,x,y` and, if they are known, `depth_mm` and `focus_mm`.

    Raises:
        SpaceError: there is no such file, a column is missing, or a value is no number. It names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a mark
            reader = csv.DictReader(file, skipinitialspace=True)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise SpaceError(f"{path}: lacks the column {missing[0]}; its first line must name {','.join(COLUMNS)}")
            centres = []
            names = [*COLUMNS, *(name for name in DISTANCES if name in (reader.fieldnames or ()))]
            for row in reader:
                try:
                    values = [float(row[name]) for name in names]
                except (ValueError, TypeError):
                    values = [np.nan]
                if not np.isfinite(values).all():
                    raise SpaceError(f"{path}: line {reader.line_num}: expected numbers {','.join(names)}")
                column, line, x, y, *distances = values
                known = dict(zip(names[len(COLUMNS) :], distances, strict=True))
                centres.append(Centre(column, line, x, y, reader.line_num, known))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SpaceError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not centres:
        raise SpaceError(f"{path}: holds no centres")
    return centres


class Picture(NamedTuple):
    """A picture [H, W, C] and the centres of its pinholes, from the file `where`."""

    image: NDArray[Any]
    centres: list[Centre]
    where: Path

    @classmethod
    def read(cls, path: Path, centres: Path) -> Picture:
        """Raises SpaceError as `read_image` and `read_centres` do."""
        return cls(read_image(path), read_centres(centres), centres)

    def cut(self, side: int, white: float | None = None) -> Measured:
        """Windows [n, C, K, K] around the centres, to the nearest pixel, less the median of each window's border as background.

        Args:
            side: K.
            white: the level at which a pixel is saturated; see `measured.saturated`.

        Raises:
            SpaceError: a window reaches beyond the picture, or is saturated. It names the centre.
        """
        windows = np.stack([self._window(centre, side) for centre in self.centres])
        for centre, count in zip(self.centres, saturated(windows, white), strict=True):
            if count:
                raise SpaceError(
                    f"{self.where}: line {centre.line}: {count} pixels around column {centre.column:g}, row {centre.row:g} "
                    f"are saturated; {EXPOSE_LESS}"
                )
        border = [windows[:, 0], windows[:, -1], windows[:, 1:-1, 0], windows[:, 1:-1, -1]]
        background = np.median(np.concatenate(border, axis=1), axis=1)
        kernels = (windows - background[:, None, None]).transpose(0, 3, 1, 2)
        points = np.array([(one.x, one.y) for one in self.centres], dtype=np.float32)
        distances = {
            name: np.array([one.distances[name] for one in self.centres], dtype=np.float32)
            for name in self.centres[0].distances
        }
        return Measured(kernels.astype(np.float32), points, distances=distances)

    def _window(self, centre: Centre, side: int) -> NDArray[Any]:
        """The window [K, K, C] that is nearest to a centre. Of two that are equally near it is the right or the lower one."""
        height, width = self.image.shape[:2]
        left, top = (math.floor(place - (side - 1) / 2 + 0.5) for place in (centre.column, centre.row))
        if left < 0 or top < 0 or left + side > width or top + side > height:
            raise SpaceError(
                f"{self.where}: line {centre.line}: the window of {side} x {side} pixels around column "
                f"{centre.column:g}, row {centre.row:g} reaches beyond the picture of {width} x {height}"
            )
        return self.image[top : top + side, left : left + side]
