"""The text files of a Ray Tune experiment, as far as they are whole. Nothing here raises for what is in a file: notes say it."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATE_FILES = "experiment_state-*.json"
TRIAL_FILES = ("params.json", "result.json", "progress.csv")
MOST = 2**28
"""Bytes of a file that is read as a whole, or characters of a line: what is larger is left alone."""
TAIL = 2**16
"""Bytes at the end of a text that are looked at for its last line."""


@dataclass
class Reports:
    """A trial's reports: (training iteration, metric) of each that has it, and the whole of the last one."""

    points: dict[int, float] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def history(self) -> tuple[tuple[int, float], ...]:
        """By rising iteration; of one that was repeated after a restart, the latest."""
        return tuple(sorted(self.points.items()))

    def take(self, report: dict[str, Any], metric: str | None) -> None:
        self.last = report
        value = as_number(_value_at(report, metric)) if metric is not None else None
        if value is not None:
            iteration = report.get("training_iteration")
            self.points[iteration if isinstance(iteration, int) else len(self.points) + 1] = value


def is_experiment(path: Path) -> bool:
    """Whether a directory looks like a Ray Tune experiment."""
    if not path.is_dir():
        return False
    return any(path.glob(STATE_FILES)) or next(trial_folders(path), None) is not None


def trial_folders(path: Path) -> Iterator[Path]:
    """Folders of an experiment that have a trial's files."""
    for folder in path.iterdir():
        if any(is_there(folder / name, path) for name in TRIAL_FILES):
            yield folder


def is_there(file: Path, root: Path) -> bool:
    """Whether it is a file within the experiment: a link may lead elsewhere, and a name be one that no file can have."""
    try:
        return file.is_file() and file.resolve().is_relative_to(root.resolve())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _value_at(report: dict[str, Any], metric: str) -> Any:
    """A metric of a report, whose name may be a path through it."""
    if metric in report:
        return report[metric]
    inner: Any = report
    for key in metric.split("/"):
        inner = inner.get(key) if isinstance(inner, dict) else None
    return inner


def read_json(file: Path, root: Path, notes: list[str]) -> Any:
    """What a JSON file holds; None if it is not there, or not whole, which a note says."""
    if not is_there(file, root):
        return None
    if file.stat().st_size > MOST:
        notes.append(f"{file}: larger than {MOST // 2**20} MiB; left out")
        return None
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        notes.append(f"{file}: not whole, or no JSON; left out")
        return None


def as_number(value: Any) -> float | None:
    """A number as a float; None for what is none, or has no place in one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def last_line(file: Path) -> str:
    """Of a text; of a traceback that is the exception itself."""
    with file.open("rb") as text:
        text.seek(max(0, file.stat().st_size - TAIL))
        lines = text.read(TAIL).decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no reason recorded")


def read_reports(folder: Path, root: Path, metric: str | None, notes: list[str]) -> Reports:
    """The reports of a trial's result.json, or of its progress.csv if there is none."""
    for name, read in READERS.items():
        file = folder / name
        if is_there(file, root):
            reports = Reports()
            for report in read(file, notes):
                reports.take(report, metric)
            if reports.last:
                return reports
    return Reports()


def _of_json_lines(file: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    bad: list[int] = []
    with file.open(errors="replace") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MOST), ""), start=1):
            report = None
            try:
                report = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError):
                if not line.endswith("\n"):
                    notes.append(f"{file}: its last line is cut off; read without it")
                    continue
            if not isinstance(report, dict):
                bad.append(number)
            elif report:
                yield report
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        notes.append(f"{file}: line {bad[0]}{more} is no JSON object; left out")


def _of_csv(file: Path, notes: list[str]) -> Iterator[dict[str, Any]]:
    with file.open(errors="replace", newline="") as lines:
        rows = csv.DictReader(lines)
        try:
            for row in rows:
                yield {name: _value(text) for name, text in row.items() if isinstance(name, str) and text}
        except csv.Error as error:
            notes.append(f"{file}: line {rows.line_num}: {error}; read up to there")


READERS: dict[str, Callable[[Path, list[str]], Iterator[dict[str, Any]]]] = {
    "result.json": _of_json_lines,
    "progress.csv": _of_csv,
}


def _value(text: str) -> Any:
    """A cell as the number that it is."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
