"""CIFAR-10's batches: the binary version, and the Python version without unpickling it.

A pickle is a program, and running one from an unknown place is to trust that place. `pickletools.genops` lists its
instructions and runs none; the batches' images and labels stand in these as plain bytes and numbers.
"""

from __future__ import annotations

import pickletools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spaces.errors import SpaceError

CHANNELS, SIDE = 3, 32
VALUES = CHANNELS * SIDE * SIDE
KEYS = {"batch_label", "labels", "data", "filenames"}
INTEGERS = {"BININT", "BININT1", "BININT2"}


def read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [N, 3, 32, 32] and labels [N] of a file of the binary version: a byte of label, then the image, and so on.

    Raises:
        SpaceError: its size is no multiple of theirs.
    """
    content = np.fromfile(path, np.uint8)
    if not len(content) or len(content) % (1 + VALUES):
        raise SpaceError(f"{path}: not a CIFAR-10 batch: its size is no multiple of {1 + VALUES:,} bytes")
    rows = content.reshape(-1, 1 + VALUES)
    return _checked(path, rows[:, 1:].tobytes(), list(rows[:, 0]))


def read_python(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images [N, 3, 32, 32] and labels [N] of a file of the Python version: a pickled dict, whose instructions are read.

    Raises:
        SpaceError: it has no row-major `data` of N x 3,072 bytes with N `labels`.
    """
    key, row_major, labels = "", False, []
    content: list[bytes] = []
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()):
            if isinstance(argument, str) and argument in KEYS:
                key = argument
            elif key == "labels" and opcode.name in INTEGERS:
                assert isinstance(argument, int)
                labels.append(argument)
            elif key == "data" and opcode.name in ("NEWFALSE", "NEWTRUE"):
                row_major = opcode.name == "NEWFALSE"  # the last one before an array's bytes says "column-major"
            elif key == "data" and isinstance(argument, str | bytes) and len(argument) >= VALUES and row_major:
                # Python 2 wrote bytes as what is now text.
                content.append(argument if isinstance(argument, bytes) else argument.encode("latin-1"))
    except (ValueError, UnicodeError) as error:
        raise SpaceError(f"{path}: not a CIFAR-10 batch: {error}") from None
    if len(content) != 1:
        raise SpaceError(f"{path}: not a CIFAR-10 batch: it has no row-major `data` of {VALUES:,} bytes an image")
    return _checked(path, content[0], labels)


def _checked(path: Path, content: bytes, labels: list[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if len(content) != len(labels) * VALUES:
        raise SpaceError(
            f"{path}: not a CIFAR-10 batch: {len(labels)} labels and {len(content):,} bytes of images, not {VALUES:,} each"
        )
    if not all(0 <= label < 10 for label in labels):
        raise SpaceError(f"{path}: not a CIFAR-10 batch: a label is not one of 0 to 9")
    return np.frombuffer(content, np.uint8).reshape(-1, CHANNELS, SIDE, SIDE), np.array(labels, np.uint8)
