"""A network on its own: `model.safetensors` and `config.json`, with nothing of the run that trained it.

{"format": 3, "system": "cvae_psf", "system_version": 2, "config": {...}, "optics": {...}}

`optics` is of systems of PSFs: what their kernels are of (deeplens_workers/kernel_optics.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from spaces.errors import SpaceError
from spaces.files import write
from spaces.system import BEFORE_SYSTEMS, system
from trainables.learner import Learner, Network

FORMAT = 3


def export(network: Network, name: str, directory: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write a network of the system `name`; `load_model` reads it.

    Args:
        facts: what else its config.json says, `Learner.facts`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write(directory / "model.safetensors", save(weights))
    record = {"format": FORMAT, "system": name, "system_version": system(name).version, "config": network.config_dict}
    record |= facts or {}
    write(directory / "config.json", json.dumps(record, indent=2).encode() + b"\n")


class Loaded(NamedTuple):
    """What is in a directory that `export` wrote, on the CPU, frozen and in evaluation mode."""

    learner: Learner[Any, Any, Any, Any]
    network: Network
    model: nn.Module
    """What the system makes of the network for users."""
    record: Mapping[str, Any]
    """config.json."""


def load_model(directory: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """The model in a directory that `export` wrote, frozen and in evaluation mode: what its system makes of the network for users.

    Raises:
        SpaceError: no export, a damaged one, or one of a format or version that this program does not read.
    """
    return load(directory).model.to(device)


def load_network(directory: str | Path) -> Network:
    """Its network alone, on the CPU; else as `load_model`."""
    return load(directory).network


def load(directory: str | Path) -> Loaded:
    """The model with its network and its system's learner. Raises as `load_model`."""
    directory = Path(directory)
    try:
        record = _record(directory / "config.json")
        learner: Learner[Any, Any, Any, Any] = system(record["system"]).make_learner()
        network: Network = learner.rebuild(record["config"])
        network.load_state_dict(load_file(directory / "model.safetensors"))
        model: nn.Module = learner.presented(network, record)
    except (FileNotFoundError, NotADirectoryError) as error:
        there = f"; did you mean {directory / 'model'}?" if (directory / "model" / "config.json").exists() else ""
        raise SpaceError(
            f"{error.filename or directory}: missing; this is not the directory of an exported model{there}"
        ) from None
    except LookupError as error:
        raise SpaceError(f"{directory / 'config.json'}: {error}") from None
    except (ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise SpaceError(f"{directory}: not an exported model of this version: {str(error).splitlines()[0]}") from None
    return Loaded(learner, network.eval().requires_grad_(False), model.eval().requires_grad_(False), record)


def _record(path: Path) -> dict[str, Any]:
    found: Any = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no mapping")
    record: dict[str, Any] = found
    if record.get("format") == 2:
        record = BEFORE_SYSTEMS | {"config": {key: value for key, value in record.items() if key != "format"}}
    elif record.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT} or 2, but got {record.get('format')}")
    version = system(record["system"]).version
    if record["system_version"] != version:
        raise ValueError(f"version {record['system_version']} of {record['system']}, this program has {version}")
    return record
