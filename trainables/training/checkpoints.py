"""Checkpoints of one trial: safetensors + JSON, atomic, checked by hash, never pickle.

    checkpoints/last-00000400.safetensors   model, moving average, optimizer moments, generator state
    checkpoints/last-00000400.json          step, metrics, best so far, system and network configuration, SHA-256 of all
    checkpoints/best-00000200.*             the same for the best report so far, the evaluated model only

The JSON is written after its tensors and has the hash of both, so a checkpoint whose JSON exists and matches is complete.
The newest two of each kind are kept: should the newest be damaged, the one before it takes its place. A search keeps
those of its best trials when they have ended (search/quota.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from spaces.errors import SpaceError
from spaces.files import write
from spaces.system import BEFORE_SYSTEMS, system
from trainables.learner import Network
from trainables.training.state import with_prefix, without_prefix
from trainables.training.stored import Kind

logger = logging.getLogger(__name__)

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """State of a trial after `step` optimizer steps, and the metrics it reported there."""

    step: int
    metrics: dict[str, float]
    best: float
    """Best value of the objective up to and including this step."""
    best_step: int
    """The step of it."""
    system: str
    """What was trained."""
    config: dict[str, Any]
    """Of the network, as JSON."""
    tensors: dict[str, Tensor]
    ended: bool = False
    """Its report is the trial's last."""

    def model(self) -> Network:
        """The model as it was, on the CPU."""
        model: Network = system(self.system).make_learner().rebuild(self.config)
        model.load_state_dict(without_prefix("model.", self.tensors))
        return model


def model_tensors(model: Network) -> dict[str, Tensor]:
    """A model's weights as checkpoint tensors."""
    return with_prefix("model.", model.state_dict())


def save_checkpoint(directory: Path, kind: Kind, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically, then delete all of its kind but the newest two.

    Raises:
        OSError: the disk is full or not writable; no incomplete checkpoint is left.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tensors = save({name: value.cpu().contiguous() for name, value in checkpoint.tensors.items()})
    record: dict[str, Any] = {
        "step": checkpoint.step,
        "metrics": checkpoint.metrics,
        "best": checkpoint.best,
        "best_step": checkpoint.best_step,
        "ended": checkpoint.ended,
        "system": checkpoint.system,
        "system_version": system(checkpoint.system).version,
        "config": checkpoint.config,
    }
    record["sha256"] = _digest(record, tensors)
    path = directory / f"{kind}-{checkpoint.step:08d}.json"
    write(path.with_suffix(".safetensors"), tensors)
    write(path, json.dumps(record, indent=2).encode())
    for old in _newest_first(directory, kind)[KEPT:]:
        old.unlink(missing_ok=True)  # the JSON first: without it the tensors are no checkpoint
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def load_checkpoint(directory: Path, kind: Kind) -> Checkpoint | None:
    """The newest valid checkpoint of a kind, on the CPU; a damaged one is passed over with a warning. None: no valid one.

    Raises:
        SpaceError: it is of another version of its system.
    """
    for path in _newest_first(directory, kind):
        try:
            return _read(path)
        except SpaceError:
            raise
        except (OSError, ValueError, LookupError, TypeError) as error:
            logger.warning("checkpoint %s is damaged (%s); using the one before it", path, error)
    return None


def _read(path: Path) -> Checkpoint:
    record: dict[str, Any] = json.loads(path.read_text())
    data = path.with_suffix(".safetensors").read_bytes()
    if _digest({name: value for name, value in record.items() if name != "sha256"}, data) != record["sha256"]:
        raise ValueError("it does not match its SHA-256")
    record = {**BEFORE_SYSTEMS, **record}
    version = system(record["system"]).version
    if record["system_version"] != version:
        raise SpaceError(
            f"{path}: of version {record['system_version']} of {record['system']}, this program has {version}; start a new run"
        )
    values = {name: record[name] for name in ("step", "metrics", "best", "best_step", "system", "config", "ended")}
    return Checkpoint(**values, tensors=load(data))


def _digest(record: dict[str, Any], tensors: bytes) -> str:
    """SHA-256 in hexadecimal of all that a checkpoint says, the same before and after a way through JSON."""
    digest = hashlib.sha256(json.dumps(record).encode())
    digest.update(tensors)
    return digest.hexdigest()


def _newest_first(directory: Path, kind: Kind) -> list[Path]:
    return sorted(directory.glob(f"{kind}-*.json"), reverse=True)
