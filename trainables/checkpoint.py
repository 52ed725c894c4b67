"""Checkpoints of one trial: safetensors + JSON, atomic, checked by hash, never pickle.

    checkpoints/last-00000400.safetensors   model, moving average, optimizer moments, generator state
    checkpoints/last-00000400.json          step, metrics, best so far, model configuration, SHA-256 of the tensors
    checkpoints/best-00000200.*             the same for the best report so far, the evaluated model only

The JSON is written after its tensors and names their hash, so a checkpoint whose JSON exists and matches is complete.
The newest two of each kind are kept: should the newest be damaged, the one before it takes its place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load, save
from torch import Tensor

from trainables.training_state import with_prefix, without_prefix
from trainables.vae import CVAE, CvaeConfig

logger = logging.getLogger(__name__)

Kind = Literal["last", "best"]
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State of a trial after `step` optimizer steps, and the metrics it reported there."""

    step: int
    metrics: dict[str, float]
    best: float
    """Best value of the objective up to and including this step."""
    config: CvaeConfig
    tensors: dict[str, Tensor]

    def model(self) -> CVAE:
        """The model as it was, on the CPU."""
        model = CVAE(self.config)
        model.load_state_dict(without_prefix("model.", self.tensors))
        return model


def model_tensors(model: CVAE) -> dict[str, Tensor]:
    """A model's weights as checkpoint tensors."""
    return with_prefix("model.", model.state_dict())


def save_checkpoint(directory: Path, kind: Kind, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically, then delete all of its kind but the newest two.

    Raises:
        OSError: the disk is full or not writable; no incomplete checkpoint is left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = save({name: value.cpu().contiguous() for name, value in checkpoint.tensors.items()})
    record = {
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
        "best": checkpoint.best,
        "config": asdict(checkpoint.config),
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    path = directory / f"{kind}-{checkpoint.step:08d}.json"
    _write(path.with_suffix(".safetensors"), tensors)
    _write(path, json.dumps(record, indent=2).encode())
    for old in _newest_first(directory, kind)[KEPT:]:
        old.unlink(missing_ok=True)  # the JSON first: without it the tensors are no checkpoint
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_checkpoint(directory: Path, kind: Kind) -> Checkpoint | None:
    """The newest valid checkpoint of a kind, on the CPU; a damaged one is passed over with a warning. None: no valid one."""
    for path in _newest_first(directory, kind):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("checkpoint %s is damaged (%s); using the one before it", path, error)
    return None


def _read(path: Path) -> Checkpoint:
    record: dict[str, Any] = json.loads(path.read_text())
    data = path.with_suffix(".safetensors").read_bytes()
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise ValueError("its tensors do not match their SHA-256")
    config = CvaeConfig.from_dict(record["config"])
    return Checkpoint(record["step"], record["metrics"], record["best"], config, load(data))


def _newest_first(directory: Path, kind: Kind) -> list[Path]:
    return sorted(directory.glob(f"{kind}-*.json"), reverse=True)


def _write(path: Path, data: bytes) -> None:
    """All of `data` under `path`, or nothing: temporary file, fsync, rename, fsync of the directory."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
