"""Exported models as commands take them: by their directory, or by the run that made them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplens_workers.lens_data import LensData
from results.run import Run, open_run
from search.api import sets_of
from search.observer import Notes
from search.storage.place import here
from spaces.errors import SpaceError
from spaces.system import Source

CONFIG = "config.json"
CONTENT = "optics"
"""Key of what a model's kernels are of."""


def find_model(model: str) -> Path:
    """The directory of an exported model, which is given by its path or by its run.

    Raises:
        SpaceError: there is no such run, or it has not ended.
    """
    model = here(model)
    if (Path(model) / CONFIG).is_file():
        return Path(model)
    try:
        run = open_run(model)
    except SpaceError as error:
        raise SpaceError(f"{error}; nor is it the directory of an exported model") from None
    if not (run.directory.model / CONFIG).is_file():
        raise SpaceError(
            f"{model}: this run has no exported model yet; its search ends with one: psf-search run --resume {model}"
        )
    return run.directory.model


def run_of(directory: Path) -> Run | None:
    """The run that a model's directory is a part of."""
    parent = directory.resolve().parent
    return open_run(parent) if (parent / "run.json").is_file() and directory.resolve().name == "model" else None


@contextmanager
def complete(directory: Path, cache: Path | None) -> Iterator[Path]:
    """The directory of an exported model that says what its kernels are of: itself or, of one that an earlier version exported into
    its run, a copy for the time being, with what the run's data says of them.

    Args:
        cache: directory of prepared data; the run's own unless given.

    Raises:
        SpaceError: not an exported model, or the run's data cannot be made again.
    """
    run = run_of(directory)
    if run is None or _says_content(directory / CONFIG):
        yield directory
        return
    record = run.directory.read_record()
    study = record.resolved_study()
    if not isinstance(study.data, LensData):
        yield directory
        return
    from trainables.exports import export, load

    old = load(directory)
    source = Source(record.source.name, Path(study.data.lens), record.source.sha256)
    facts = old.learner.facts(sets_of(run, cache, observer=Notes()), study, source)
    with tempfile.TemporaryDirectory() as aside:
        new = Path(aside) / directory.name
        export(old.network, study.model, new, facts)
        for file in directory.iterdir():
            if not (new / file.name).exists():
                shutil.copyfile(file, new / file.name)
        yield new


def _says_content(config: Path) -> bool:
    try:
        return CONTENT in json.loads(config.read_text())
    except (OSError, ValueError, TypeError) as error:
        raise SpaceError(f"{config}: not that of an exported model: {error}") from None
