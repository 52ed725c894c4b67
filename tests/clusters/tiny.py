"""A search of a minute that has the same outcome wherever its trials train, and however often it is interrupted."""

import json
from pathlib import Path

from results.records import read_trials
from results.run_directory import RunDirectory
from tests.search.test_search import SETTINGS
from tests.waiting import wait_until

TRIALS = 6
# No trial has a say in another's values or end.
_SETTINGS = [
    *SETTINGS,
    "budget.quick.steps=300",
    "budget.quick.evaluate_every=100",
    "budget.quick.finalists=1",
    "budget.quick.finalist_seeds=2",
    "sampler=random",
    "scheduler=none",
    "resources.cpus_per_worker=1",
    "resources.render_actors=0",
]
OPTIONS = ["--preset", "quick", "--trials", str(TRIALS), *(part for one in _SETTINGS for part in ("--set", one))]
LANES = ["--set", "resources.lanes=3"]
"""More than one machine of two CPUs has room for."""
NO_MEMORY_MONITOR = "RAY_memory_monitor_refresh_ms=0"
"""Ray would kill processes when others, of this machine, have taken its memory."""
PATIENCE = 400
"""Seconds that other programs on this machine may cost."""


def outcome(root: Path):
    """What was found under a directory: each trial's number, end, parameters and value, and the test scores."""
    trials = read_trials(RunDirectory(root / "runs" / "triplet"))
    summary = json.loads((root / "runs" / "triplet" / "summary.json").read_text())
    assert [trial.number for trial in trials] == list(range(TRIALS))
    return [(trial.state, trial.params, trial.value) for trial in trials], summary["test"]


def wait_for(log: Path, text: str) -> None:
    """Until a search has printed a text.

    Raises:
        AssertionError: it ended without; its script says "ended with" in the log.
    """

    def printed() -> bool:
        said = log.read_text() if log.exists() else ""
        assert text in said or "ended with" not in said, said
        return text in said

    wait_until(printed, PATIENCE)
