"""Small image files, written as their makers write them."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.images.image_data import ImageData
from trainables.images.preparation import ImagePreparation


def some_images(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(
    folder: Path, train: int = 60, test: int = 20, suffix: str = "", side: int = 8
) -> dict[str, np.ndarray]:
    """Four idx files; what was written, by set before the split."""
    arrays = {}
    for seed, (part, count) in enumerate((("train", train), ("t10k", test))):
        arrays[part] = some_images(count, (side, side), seed)
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", arrays[part])
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count).astype(np.uint8) % 10)
    return arrays


def cifar_batch(count: int, seed: int) -> dict[str, Any]:
    images = some_images(count, (3072,), seed)
    labels = [int(label) for label in np.random.default_rng(seed).integers(0, 10, count)]
    names = [f"{i}.png" for i in range(count)]
    return {"batch_label": "training batch", "labels": labels, "data": images, "filenames": names}


def write_cifar(folder: Path, count: int = 10, protocol: int = 2) -> list[dict[str, Any]]:
    """Six batches of the Python version."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = [cifar_batch(count, seed) for seed in range(6)]
    for name, batch in zip([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], batches, strict=True):
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return batches


@pytest.fixture
def prepare(tmp_path):
    """The sets of a data section in a temporary cache: name -> directory."""

    def make(data: ImageData, seed: int = 0) -> dict[str, str]:
        preparation = ImagePreparation()
        return preparation.prepare(data, preparation.find(data), seed, tmp_path / "cache", actors=0).sets

    return make
