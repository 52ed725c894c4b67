"""Weights & Biases: a run per trial and finalist, and one of the finals, in one group per search."""

from __future__ import annotations

import os
from typing import Any

import wandb

PROJECT = "psf-search"


class WandbBackend:
    """Runs have ids of their own, so that a resumed search goes on with them. Offline with WANDB_MODE=offline."""

    def __init__(self) -> None:
        self._search: dict[str, Any] = {}
        self._runs: dict[str, Any] = {}
        self._settings = wandb.Settings(
            silent=True, console="off", x_disable_stats=True, save_code=False, disable_git=True
        )

    def search(self, id: str, name: str, directory: str, config: dict[str, Any]) -> str | None:
        mode = os.environ.get("WANDB_MODE")
        offline = mode in ("offline", "dryrun")
        if not offline and mode != "disabled" and not wandb.login(verify=False):
            raise RuntimeError("not logged in; `wandb login`, or WANDB_MODE=offline")
        directory = os.environ.get("WANDB_DIR", directory)
        self._search = {"id": id, "name": name, "directory": directory, "config": config}
        if mode == "disabled":
            return "WANDB_MODE=disabled: nothing is kept"
        return f"offline; `wandb sync {directory}/wandb/offline-run-*` sends it" if offline else None

    def begin(self, key: str, name: str, kind: str, params: dict[str, Any]) -> None:
        self._runs[key] = self._run(key, name, kind, params)

    def report(self, key: str, step: int, metrics: dict[str, float]) -> None:
        self._runs[key].log(metrics, step=step)

    def end(self, key: str, state: str, told: dict[str, Any]) -> None:
        run = self._runs.pop(key)
        run.summary.update({"state": state, **{name: value for name, value in told.items() if value is not None}})
        run.finish(exit_code=1 if state == "FAIL" else 0)

    def finals(self, metrics: dict[str, float], told: dict[str, Any], files: list[str]) -> None:
        run = self._run("finals", "finals", "finals", {})
        run.summary.update(metrics | told)
        card = wandb.Artifact(f"{self._search['name']}-card", type="model-card")
        for file in files:
            card.add_file(file)
        run.log_artifact(card)
        run.finish()

    def close(self) -> None:
        for key in list(self._runs):
            self.end(key, "WAITING", {})

    def _run(self, key: str, name: str, kind: str, params: dict[str, Any]) -> Any:
        search = self._search
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=search["name"],
            name=f"{search['name']} {name}",
            id=f"{search['id']}-{key}",
            job_type=kind,
            config={**params, "search": search["config"]},
            dir=search["directory"],
            resume="allow",
            reinit="create_new",
            settings=self._settings,
        )
