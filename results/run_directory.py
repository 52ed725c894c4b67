"""The layout of a run on disk, in one place: every path of a run is asked for here.

results/runs/<name>/
    run.json        how the run was started (RunRecord)
    study.db        Optuna storage, study name = run name: the one record of its trials
    lock            held (flock) by the search that writes to this run
    driver.json     the same for other machines, while it runs
    trials/00007/   checkpoints/ of one trial, of the best ones and of those that have not ended
    finalists/00007-seed-0/   the same of a finalist's training
    warm_start.json what another run's trials said, if it was asked for
    tensorboard/    one folder of event files per trial, and winner/ with its figures
    tune/, lanes/   Ray Tune's and Ray Train's own files
    logs/           lane-N.log of each lane, driver.log of the driver and what its libraries say
    model/          the exported winner
    figures/        pictures
    explorer.safetensors   what the report shows of the winner at work
    report.html     what the run found, for people
    summary.json    written once at the end (Summary)
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from results import older
from results.summary import Summary
from spaces.disk import full_disk
from spaces.errors import SpaceError, first_problem, near, nearest
from spaces.files import locked, replacing
from spaces.frozen import Frozen
from spaces.study import Budget, Study

ROOT = Path("results/runs")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
LISTED = 5
"""Runs that are named where one was not found."""


class RunError(SpaceError):
    """What is on disk cannot be used: missing, damaged, or in use. The message names the file and what to do."""


class MachineError(RunError):
    """The machine is in the way, and the run is sound: once that is mended, `--resume` goes on."""


class SourceRecord(Frozen):
    """What a run's data is made of, such as a lens; `sha256` is that of its content."""

    name: str
    sha256: str


class RunRecord(Frozen):
    """How a run was started: enough to repeat or continue it. `started` is local time with its UTC offset."""

    name: str
    space: str
    preset: str
    seed: int
    started: datetime
    command: tuple[str, ...]
    study: dict[str, Any]
    data: dict[str, str]
    """Absolute directories of the data sets, by name."""
    source: SourceRecord
    versions: dict[str, str]
    changes: tuple[str, ...] = ()
    """Overrides of the study with which the run was resumed, in their order."""

    def resolved_study(self) -> Study:
        """The study as it was searched: the space file with every override applied.

        Raises:
            RunError: this version no longer understands it.
        """
        try:
            return Study.model_validate(self.study)
        except ValidationError as error:
            problem = first_problem(error, Study)
            made = self.versions.get("psf-search", "of an unknown version")
            raise RunError(
                f"run {self.name}: its study, made by psf-search {made}, does not fit this version: {problem}; go on with that "
                "version, or start a new run"
            ) from None

    def budget(self) -> Budget:
        """The preset's budget in the resolved study. Raises RunError as `resolved_study` does."""
        budgets = self.resolved_study().presets()
        if self.preset not in budgets:
            raise RunError(
                f"run {self.name}: its study has no budget '{self.preset}'; {nearest(self.preset, list(budgets))}"
            )
        return budgets[self.preset]


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run. Nothing is created before `create`."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def record(self) -> Path:
        return self.path / "run.json"

    @property
    def study_db(self) -> Path:
        return self.path / "study.db"

    @property
    def storage_url(self) -> str:
        """SQLAlchemy's address of that file, which a search may be copying from elsewhere (search/study_disk.py)."""
        return f"sqlite:///{self.study_db.resolve()}"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def lease(self) -> Path:
        """Who writes to this run, also from another machine (search/lease.py)."""
        return self.path / "driver.json"

    @property
    def trials(self) -> Path:
        return self.path / "trials"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def tune(self) -> Path:
        return self.path / "tune"

    @property
    def lanes(self) -> Path:
        """Ray Train's own files."""
        return self.path / "lanes"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def warm_start(self) -> Path:
        return self.path / "warm_start.json"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def explorer(self) -> Path:
        return self.path / "explorer.safetensors"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def trial(self, number: int) -> Path:
        return self.trials / f"{number:05d}"

    def checkpoints(self, number: int) -> Path:
        return self.trial(number) / "checkpoints"

    @property
    def finalists(self) -> Path:
        return self.path / "finalists"

    def finalist(self, number: int, seed: int) -> Path:
        """One training of a finalist."""
        return self.finalists / f"{number:05d}-seed-{seed}"

    def events(self, number: int) -> Path:
        """TensorBoard event files of one trial."""
        return self.tensorboard / f"{number:05d}"

    @property
    def winner_events(self) -> Path:
        """TensorBoard event files of the winner's figures."""
        return self.tensorboard / "winner"

    def absolute(self) -> RunDirectory:
        """The same run for a process with another working directory."""
        return RunDirectory(self.path.resolve())

    def create(self, record: RunRecord) -> None:
        """Make the folders of a new run and write `run.json`. Call it with the lock held.

        Raises:
            RunError: a run of this name exists.
        """
        if self.record.exists():
            raise RunError(
                f"{self.path}: a run of this name exists; choose another --name, or continue it with --resume"
            )
        for folder in (self.trials, self.tensorboard, self.logs, self.figures):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(self.record, record)

    def rewrite_record(self, record: RunRecord) -> None:
        """Put down what a resumed run changed. Call it with the lock held."""
        write_json(self.record, record)

    def read_record(self) -> RunRecord:
        """Raises RunError: `run.json` is missing or damaged."""
        missing = "this is not a run's directory, or the run never started"
        return read_json(self.record, RunRecord, missing, older.run_record)

    def write_summary(self, summary: Summary) -> None:
        write_json(self.summary, summary)

    def read_summary(self) -> Summary | None:
        """The summary, or None while the search has not ended. Raises RunError when it is damaged."""
        return read_json(self.summary, Summary, "", older.summary) if self.summary.exists() else None

    @contextmanager
    def lock(self) -> Iterator[Self]:
        """Hold this run for one writing search; make its directory if need be.

        The kernel releases the lock when the process ends, however it ends, so none is ever stale. Reading a run
        (`tune analyze`) takes no lock.

        Raises:
            RunError: another search holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                handle = held.enter_context(locked(self.lock_file, wait=False))
            except BlockingIOError:
                holder = self.lock_file.read_text(errors="replace").strip() or "another process"
                raise RunError(
                    f"{self.path}: a search of this name is running ({holder}); wait for it or choose another --name"
                ) from None
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            yield self


def default_name(space: str, now: datetime | None = None) -> str:
    """Name of a run that was given none: `cvae_psf-20261121-143000`, local time."""
    return f"{space}-{(now or datetime.now()):%Y%m%d-%H%M%S}"


def validate_name(name: str) -> str:
    """Return a run name that is safe as a folder and as a study name.

    Raises:
        SpaceError: anything but 1 to 100 letters, digits, `.`, `_`, `-`, or a name that starts with `.` or `-`.
    """
    if not NAME.fullmatch(name):
        raise SpaceError(
            f"--name {name}: a run name has 1 to 100 letters, digits, '.', '_' or '-' and starts with none of the last two"
            if name.startswith((".", "-"))
            else f"--name {name}: a run name has 1 to 100 letters, digits, '.', '_' or '-'"
        )
    return name


def runs(root: Path = ROOT) -> list[str]:
    """Names of the runs under a root, oldest first."""
    found = sorted(root.glob("*/run.json"), key=lambda path: (path.stat().st_mtime, path.parent.name))
    return [path.parent.name for path in found]


def find(run: str, root: Path = ROOT) -> RunDirectory:
    """A run by name under `root`, or by path.

    Raises:
        SpaceError: no such run; the message has the nearest name.
    """
    for path in (root / run, Path(run)):
        if (path / "run.json").is_file():
            return RunDirectory(path)
    names = runs(root)
    latest = f"the latest of {len(names)} under {root}: {', '.join(names[-LISTED:])}"
    hint = (near(run, names) or latest) if names else f"there is no run under {root}"
    if (Path(run)).is_dir() or (root / run).is_dir():
        hint = f"the directory has no run.json; {hint}"
    raise SpaceError(f"{run}: no such run; {hint}")


def write_json(path: Path, model: BaseModel) -> None:
    """Write a model as JSON in one step: a reader sees the old file or the new one, never a part.

    Raises:
        RunError: the file cannot be written, such as on a full disk.
    """
    text = json.dumps(model.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
    try:
        with replacing(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        if (full := full_disk(error)) is not None:
            raise MachineError(full) from None
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None


def read_json[Model: BaseModel](
    path: Path, model: type[Model], missing: str, as_now: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Model:
    """A model that `write_json` wrote, this version's or an earlier one's.

    Args:
        as_now: makes this version's of what an earlier one wrote.

    Raises:
        RunError: missing (which `missing` explains), damaged, or of a version that is not read any more.
    """
    found: Any = None
    try:
        found = json.loads(path.read_bytes())
        return model.model_validate_json(json.dumps(as_now(found)))
    except FileNotFoundError:
        raise RunError(f"{path}: missing; {missing}") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = str(first_problem(error, model))
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # no JSON, or not of that form
        problem = str(error).partition("\n")[0]
    versions = found.get("versions") if isinstance(found, dict) else None
    if isinstance(versions, dict) and "psf-search" in versions:
        raise RunError(
            f"{path}: written by psf-search {versions['psf-search']}, not readable by this version: {problem}; read it with that "
            "version, or restore it from a copy"
        )
    raise RunError(f"{path}: damaged or of another version: {problem}; restore it from a copy")
