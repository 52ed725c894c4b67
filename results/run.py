"""A run for Python: its trials as a table, its best trial, its summary, its model.

from results import load_model, open_run

run = open_run("results/runs/mine")
run.trials_dataframe().sort_values("value")
model = run.model()
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.run_directory import ROOT, RunDirectory, RunError, find
from results.summary import Summary

if TYPE_CHECKING:
    from pandas import DataFrame

    from results.analysis import Analysis
    from results.records import TrialRecord


def open_run(run: str | Path) -> Run:
    """A run by its directory, or by its name under results/runs. It may still be running.

    Raises:
        SpaceError: there is no such run.
    """
    return Run(find(str(run), ROOT))


def load_model(directory: str | Path, device: str = "cpu") -> Any:
    """An exported model: frozen, in evaluation mode. What it can do depends on its system; its card says what.

    Raises:
        SpaceError: not an exported model, or one of another version.
    """
    # By name, as this package reads runs also where there is no torch.
    return import_module("trainables.exports").load_model(directory, device)


class Run:
    """What a search has found so far, read anew with each question."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"Run({str(self.directory.path)!r})"

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def summary(self) -> Summary | None:
        """The end result; None while the search has not ended."""
        return self.directory.read_summary()

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials by rising number."""
        from results.records import read_trials

        return read_trials(self.directory)

    @property
    def best(self) -> TrialRecord:
        """The winner of the finals, or while there is none the best trial so far.

        Raises:
            RunError: no trial has reported.
        """
        ranking = self.analysis().ranking
        if not ranking:
            raise RunError(f"run {self.name}: no trial has reported yet")
        return ranking[0]

    def analysis(self) -> Analysis:
        """All that `tune analyze` shows."""
        from results.analysis import analyze

        return analyze(self.directory)

    def trials_dataframe(self) -> DataFrame:
        """A row per trial: number, state, value, step, seconds, lane, failure, then `params_*` and the last report's metrics.

        `value` is the trial's best report of the objective.
        """
        from pandas import DataFrame

        mode = self.directory.read_record().resolved_study().objective.mode
        rows = [trial.row(mode) for trial in self.trials]
        return DataFrame(rows).set_index("number") if rows else DataFrame()

    def model(self, device: str = "cpu") -> Any:
        """The exported winner; see `load_model`.

        Raises:
            RunError: the search has not ended.
        """
        if self.summary is None:
            raise RunError(f"run {self.name}: there is no model yet; the search exports its winner at its end")
        return load_model(self.directory.model, device)
