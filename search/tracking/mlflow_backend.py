"""MLflow: a parent run per search, which has the finals, and a nested run per trial and finalist."""

from __future__ import annotations

import os
import time
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import get_tracking_uri

EXPERIMENT = "psf-search"
TAG = "psf_search_id"
"""Tag of a run by which a resumed search finds it."""
STATUS = {"FAIL": "FAILED", "WAITING": "KILLED"}


class MlflowBackend:
    """Where MLFLOW_TRACKING_URI says, else in MLflow's own default, mlflow.db of the working directory."""

    def __init__(self) -> None:
        self._client = MlflowClient()
        self._experiment = ""
        self._id = ""
        self._parent = ""
        self._runs: dict[str, str] = {}

    def search(self, id: str, name: str, directory: str, config: dict[str, Any]) -> str | None:
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(title)
        self._experiment = found.experiment_id if found is not None else self._client.create_experiment(title)
        self._id = id
        self._parent = self._run(id, name, {**config, "directory": directory}, {})
        return f"run {name} of experiment {title} at {get_tracking_uri()}"

    def begin(self, key: str, name: str, kind: str, params: dict[str, Any]) -> None:
        tags = {"mlflow.parentRunId": self._parent, "kind": kind}
        self._runs[key] = self._run(f"{self._id}-{key}", name, params, tags)

    def report(self, key: str, step: int, metrics: dict[str, float]) -> None:
        self._log(self._runs[key], step, metrics)

    def end(self, key: str, state: str, told: dict[str, Any]) -> None:
        run = self._runs.pop(key)
        self._tag(run, {"state": state, **told})
        self._client.set_terminated(run, STATUS.get(state, "FINISHED"))

    def finals(self, metrics: dict[str, float], told: dict[str, Any], files: list[str]) -> None:
        self._log(self._parent, 0, metrics)
        self._tag(self._parent, told)
        for file in files:
            self._client.log_artifact(self._parent, file)
        self._client.set_terminated(self._parent, "FINISHED")
        self._parent = ""

    def close(self) -> None:
        for key in list(self._runs):
            self.end(key, "WAITING", {})
        if self._parent:
            self._client.set_terminated(self._parent, STATUS["WAITING"])

    def _run(self, id: str, name: str, params: dict[str, Any], tags: dict[str, Any]) -> str:
        """The run of this id, made on first use, and running from now on."""
        found = self._client.search_runs([self._experiment], f"tags.{TAG} = '{id}'", max_results=1)
        if found:
            run = str(found[0].info.run_id)
            self._client.update_run(run, status="RUNNING")
            return run
        made = self._client.create_run(self._experiment, tags={TAG: id, **tags}, run_name=name)
        run = str(made.info.run_id)
        self._client.log_batch(run, params=[Param(key, str(value)) for key, value in params.items()])
        return run

    def _log(self, run: str, step: int, metrics: dict[str, float]) -> None:
        now = int(1000 * time.time())
        self._client.log_batch(run, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def _tag(self, run: str, told: dict[str, Any]) -> None:
        tags = [RunTag(name, str(value)) for name, value in told.items() if value is not None]
        self._client.log_batch(run, tags=tags)
