"""A network on its own: `model.safetensors` and `config.json`, with nothing of the run that trained it.

{"format": 3, "system": "cvae_psf", "system_version": 2, "config": {...}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from spaces.errors import SpaceError
from spaces.files import write
from spaces.system import BEFORE_SYSTEMS, system
from trainables.learner import Network

FORMAT = 3


def export(network: Network, name: str, directory: Path) -> None:
    """Write a network of the system `name`; `load_model` reads it."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write(directory / "model.safetensors", save(weights))
    record = {"format": FORMAT, "system": name, "system_version": system(name).version, "config": network.config_dict}
    write(directory / "config.json", json.dumps(record, indent=2).encode() + b"\n")


def load_model(directory: str | Path, device: str | torch.device = "cpu") -> Network:
    """The network in a directory that `export` wrote: frozen, in evaluation mode.

    Raises:
        SpaceError: no export, a damaged one, or one of a format or version that this program does not read.
    """
    directory = Path(directory)
    try:
        record = _record(directory / "config.json")
        network: Network = system(record["system"]).make_learner().rebuild(record["config"])
        network.load_state_dict(load_file(directory / "model.safetensors"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SpaceError(
            f"{error.filename or directory}: missing; this is not the directory of an exported model"
        ) from None
    except LookupError as error:
        raise SpaceError(f"{directory / 'config.json'}: {error}") from None
    except (ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise SpaceError(f"{directory}: not an exported model of this version: {str(error).splitlines()[0]}") from None
    return network.to(device).eval().requires_grad_(False)


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
