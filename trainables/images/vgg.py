"""VGG16's weights from a file of torchvision's, for the perceptual distance: read once, then found in the cache.

Only tensors are read: PyTorch's unpickler for weights runs no program of a file, and safetensors has none.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.errors import SpaceError
from trainables.images.image_data import VGG16_FILE

SET = "vgg16"
"""What it is called beside the sets of images."""
VERSION = 1
HASHED = re.compile(r"-([0-9a-f]{8,64})\.")
"""In a name that torchvision gives: the first digits of the file's SHA-256."""


def find_vgg16(path: str) -> str:
    """The SHA-256 in hexadecimal of a file of weights.

    Raises:
        SpaceError: it is missing, or its name says another content.
    """
    file = Path(path)
    try:
        state = file.stat()
        digest = _sha256(file, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise SpaceError(
            f"data.vgg16: {path}: {error.strerror or error}; put torchvision's {VGG16_FILE} there, nothing is downloaded"
        ) from None
    if (named := HASHED.search(file.name)) is not None and not digest.startswith(named[1]):
        raise SpaceError(
            f"data.vgg16: {path}: damaged: its SHA-256 begins with {digest[: len(named[1])]}, not as its name says"
        )
    return digest


def parameters_of_vgg16(path: str) -> dict[str, Any]:
    """What determines the cache's entry."""
    return {"version": VERSION, "set": SET, "sha256": find_vgg16(path)}


def read_vgg16(path: str) -> dict[str, NDArray[np.float32]]:
    """The weights of its first three blocks by torchvision's names.

    Raises:
        SpaceError: the file has not just these; it says which one is missing or of another shape.
    """
    from trainables.training.perceptual import TENSORS

    found = _tensors(path)
    for name, shape in TENSORS.items():
        if name not in found or tuple(found[name].shape) != shape:
            have = f"of shape {list(found[name].shape)}" if name in found else "missing"
            raise SpaceError(
                f"data.vgg16: {path}: not the weights of VGG16 ({VGG16_FILE}): {name} should be of shape {list(shape)}, is {have}"
            )
    return {name: found[name].float().numpy() for name in TENSORS}


def _tensors(path: str) -> dict[str, Any]:
    import torch
    from safetensors.torch import load_file

    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of zip files, of unpickling, of PyTorch: whatever is wrong, it is the file
        raise SpaceError(f"data.vgg16: {path}: not a file of weights: {_first_line(error)}") from None
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise SpaceError(f"data.vgg16: {path}: not a file of weights: it holds a {type(found).__name__}")
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


@lru_cache(maxsize=4)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Half a gigabyte is asked for several times; its size and time tell whether it is still the same."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
