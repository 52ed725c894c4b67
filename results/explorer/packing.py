"""Arrays as text inside of a page: float16, or 12 bits a number with levels of each row, compressed, as base64.

Bytes of a number lie in planes, the telling ones together, which zlib makes smaller: weights in 12 bits by 11 %. A page takes
them apart in network.js.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["f32", "f16", "q12", "u8"]
LEVELS = 3071
"""The highest number of `q12`. All 4,096 numbers would make a page of the largest network 3 % larger, beyond 19 MB with its kernels."""


@dataclass(frozen=True)
class Packed:
    """`index`: name, shape and kind of each array in their order; `text`: base64 of all of them."""

    index: list[dict[str, Any]]
    text: str


def pack(arrays: Mapping[str, tuple[Kind, NDArray[Any]]]) -> Packed:
    """Arrays, each as its kind; `q12` has a scale for each index of its first dimension."""
    index = [{"name": name, "kind": kind, "shape": list(array.shape)} for name, (kind, array) in arrays.items()]
    content = b"".join(BYTES[kind](array) for kind, array in arrays.values())
    return Packed(index, base64.b64encode(zlib.compress(content, 6)).decode())


def _float32(array: NDArray[Any]) -> bytes:
    return array.astype("<f4").tobytes()


def _float16(array: NDArray[Any]) -> bytes:
    high_and_low = array.astype(">f2").reshape(-1).view(np.uint8).reshape(-1, 2)
    return high_and_low.T.tobytes()


def _twelve_bits(array: NDArray[Any]) -> bytes:
    """Lowest value and step of each row as float32, the upper 8 bits of all numbers, then their lower 4, two in a byte."""
    rows = array.astype(np.float32).reshape(len(array), -1)
    low = rows.min(axis=1)
    step = ((rows.max(axis=1) - low) / LEVELS).astype(np.float32)
    levels = np.rint((rows - low[:, None]) / np.maximum(step, np.float32(1e-30))[:, None]).clip(0, LEVELS)
    whole = levels.astype(np.uint16).reshape(-1)
    rest = (whole & 15).astype(np.uint8)
    rest = np.append(rest, np.zeros(len(rest) % 2, np.uint8)).reshape(-1, 2)
    scales = np.stack([low, step]).astype("<f4").tobytes()
    return scales + (whole >> 4).astype(np.uint8).tobytes() + (rest[:, 0] << 4 | rest[:, 1]).tobytes()


def _bytes(array: NDArray[Any]) -> bytes:
    return array.astype(np.uint8).tobytes()


BYTES = {"f32": _float32, "f16": _float16, "q12": _twelve_bits, "u8": _bytes}
