"""The idx format of MNIST and its like: magic, sizes, bytes (LeCun et al. 1998), plain or gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import SpaceError

UNSIGNED_BYTES = 0x08


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The bytes of an idx file, as an array of its shape.

    Raises:
        SpaceError: it is no idx file of unsigned bytes in so many dimensions, or it is damaged; the message names it.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic = file.read(4)
            if magic != bytes([0, 0, UNSIGNED_BYTES, dimensions]):
                raise SpaceError(
                    f"{path}: not an idx file of bytes in {dimensions} dimensions: it begins with {magic!r}"
                )
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            wanted = math.prod(shape)
            content = file.read(wanted + 1)  # one more shows a file that is too long
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise SpaceError(f"{path}: damaged: {error}") from None
    if len(content) != wanted:
        raise SpaceError(f"{path}: damaged: its header says {shape}, but it has not just {wanted:,} bytes of data")
    return np.frombuffer(content, np.uint8).reshape(shape)
