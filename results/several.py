"""Several runs side by side: where their settings differ, and how their winners compare. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.analysis import Analysis, analyze
from results.run_directory import RunDirectory
from spaces.errors import SpaceError

ABSENT = object()
"""The value of a key that a run does not have."""

HASH = 12
"""Characters of a hash that are shown."""
DIFFERENT_SETS = "The runs were judged at different test sets, so a difference may be that of the sets."


@dataclass(frozen=True)
class Several:
    """Runs by label.

    `differences` maps each setting that is not the same in all runs to its values in their order; `ABSENT` where a run has none.
    `same_test_set`: all were, or will be, judged at the same sealed data.
    """

    runs: dict[str, Analysis]
    differences: dict[str, list[Any]]
    same_test_set: bool


def analyze_several(directories: Sequence[RunDirectory]) -> Several:
    """Read runs, finished or not, and compare their settings.

    Raises:
        SpaceError: a run is given twice.
        RunError: a run's files are missing or damaged.
    """
    places = [one.path.resolve() for one in directories]
    for index, place in enumerate(places):
        if place in places[:index]:
            raise SpaceError(f"{directories[index].path}: given twice; name each run once")
    found = [analyze(one) for one in directories]
    return Several(
        runs=dict(zip(labels(places), found, strict=True)),
        differences=differences([settings(one) for one in found]),
        same_test_set=len({_test_set(one) for one in found}) == 1,
    )


def labels(places: Sequence[Path]) -> list[str]:
    """The shortest ends of different paths that tell them apart: the names, where they do."""
    ends = [[*place.parts] for place in places]

    def shortest(parts: list[str]) -> str:
        for count in range(1, len(parts) + 1):
            if sum(other[-count:] == parts[-count:] for other in ends) == 1:
                return str(Path(*parts[-count:]))
        raise AssertionError(parts)

    return [shortest(parts) for parts in ends]


def settings(analysis: Analysis) -> dict[str, Any]:
    """All that makes a run what it is, by the keys of its space; of its budgets the one that it has, of its data a hash each."""
    record, study = analysis.record, analysis.study
    tree = study.model_dump(mode="json", exclude_none=True)
    del tree["description"]
    for parameter in tree["search"].values():
        del parameter["source"]  # where it is written, for people
    budget = record.budget().model_dump(mode="json", exclude_none=True)
    del budget["set"]  # which the study has, applied
    source = {"name": record.source.name, "sha256": record.source.sha256[:HASH]}
    return {
        "space": tree.pop("space"),
        "preset": record.preset,
        **tree,
        "budget": budget,
        "source": source,
        "data sets": {name: Path(place).name[:HASH] for name, place in record.data.items()},
        "changed at resume": list(record.changes),
        "versions": record.versions,
    }


def differences(trees: Sequence[Mapping[str, Any]], prefix: str = "") -> dict[str, list[Any]]:
    """Dotted keys at which nested mappings differ, with every one's value. A mapping that one of them lacks counts as a whole."""
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for tree in trees for key in tree):
        values = [tree.get(key, ABSENT) for tree in trees]
        if all(isinstance(value, Mapping) for value in values):
            found |= differences(values, f"{prefix}{key}.")
        elif any(value != values[0] for value in values):
            found[f"{prefix}{key}"] = values
    return found


def _test_set(analysis: Analysis) -> str:
    return Path(analysis.record.data["test"]).name if "test" in analysis.record.data else ""
