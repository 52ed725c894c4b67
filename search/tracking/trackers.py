"""The trackers that there are, and whether one can be used. Imports none of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from spaces.errors import SpaceError, nearest


@dataclass(frozen=True)
class Known:
    """A tracker's title, the module that its extra installs, and the class that talks to it."""

    title: str
    module: str
    backend: str


TRACKERS = {
    "wandb": Known("Weights & Biases", "wandb", "search.tracking.wandb_backend:WandbBackend"),
    "mlflow": Known("MLflow", "mlflow", "search.tracking.mlflow_backend:MlflowBackend"),
}


def check_trackers(names: Iterable[str]) -> None:
    """See that trackers exist, are installed, and that MLflow's store is one that it takes.

    Raises:
        SpaceError: one does not, is not, or does not.
    """
    for name in names:
        if name not in TRACKERS:
            raise SpaceError(f"--track {name}: no such tracker; {nearest(name, list(TRACKERS))}")
        if find_spec(TRACKERS[name].module) is None:
            raise SpaceError(
                f"--track {name}: {TRACKERS[name].title} is not installed; pip install 'psf-search[{name}]'"
            )
        if name == "mlflow":
            _check_store(os.environ.get("MLFLOW_TRACKING_URI", ""))


def _check_store(uri: str) -> None:
    """MLflow 3 refuses to write to stores of files unless it is told to."""
    scheme, separator, _ = uri.partition("://")
    allowed = os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")
    if uri and not allowed and (not separator or scheme == "file") and uri != "databricks":
        raise SpaceError(
            f"--track mlflow: MLFLOW_TRACKING_URI={uri}: MLflow takes no store of files any more; use sqlite:///mlflow.db or a "
            "server's http://HOST:PORT"
        )
