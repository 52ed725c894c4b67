"""`explorer.safetensors` of a run: arrays, and a description as its metadata. Written by the finals, read by the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from results.run_directory import MachineError, RunError
from spaces.disk import full_disk
from spaces.explorer import Explorer
from spaces.files import write as write_file


def write(path: Path, explorer: Explorer) -> None:
    """In one step.

    Raises:
        RunError: it cannot be written, such as on a full disk.
    """
    described = json.dumps({"view": explorer.view, "description": explorer.description}, allow_nan=False)
    arrays = {name: np.ascontiguousarray(one) for name, one in explorer.arrays.items()}
    try:
        write_file(path, save(arrays, {"explorer": described}))
    except OSError as error:
        if (full := full_disk(error)) is not None:
            raise MachineError(full) from None
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None


def read(path: Path) -> Explorer:
    """What `write` wrote.

    Raises:
        RunError: missing, or damaged.
    """
    try:
        arrays, metadata = tensors(path)
        found: dict[str, Any] = json.loads(metadata["explorer"])
        return Explorer(found["view"], found["description"], arrays)
    except (ValueError, TypeError, KeyError):
        raise RunError(f"{path}: damaged or of another version; `psf-search figures` makes it again") from None


def tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """All arrays of a safetensors file by name, and its metadata.

    Raises:
        RunError: missing, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
            return arrays, cast("dict[str, str]", opened.metadata() or {})
    except FileNotFoundError:
        raise RunError(f"{path}: missing; restore it from a copy") from None
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged: {str(error).splitlines()[0]}; restore it from a copy") from None
