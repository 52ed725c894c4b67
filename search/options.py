"""Options of the command line that several commands read alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens_workers.measured import check_fits
from results.run_directory import RunError
from search.plan import check_writable
from spaces.disk import full_disk
from spaces.errors import SpaceError

SensorOption = Annotated[str | None, typer.Option(metavar="WxH", help="Sensor in mm; default: the lens file's.")]
ConfigurationOption = Annotated[
    int | None, typer.Option(min=1, help="Which of the lens file's configurations; default: the first.")
]

OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key of the space.")
]
LensOption = Annotated[str | None, typer.Option(help="Shipped lens name or .json, .zmx, .seq file; same as data.lens.")]


def numbers(option: str, text: str, separator: str = ",", kind: type[float] = float) -> list[Any]:
    """Numbers of an option such as 0.486,0.587 or 36x24.

    Raises:
        SpaceError: it holds something else, or a pair has not two.
    """
    try:
        values = [kind(part) for part in text.split(separator)]
    except ValueError:
        values = []
    if not values or (separator == "x" and len(values) != 2):
        example = ("20x20" if kind is int else "36x24") if separator == "x" else "0.486,0.587"
        raise SpaceError(f"{option}: expected numbers such as {example}, but got {text!r}")
    return values


def check_out(out: Path, suffixes: Sequence[str]) -> None:
    """That a file of `--out` can be written.

    Raises:
        SpaceError: another suffix, a library that its format needs is not there, or no directory to write to.
    """
    if out.suffix not in suffixes:
        raise SpaceError(f"--out: expected a file ending in {', '.join(suffixes)}, but got {out.name}")
    if out.suffix == ".fits":
        check_fits("--out")
    if not out.absolute().parent.is_dir():
        raise SpaceError(f"--out: no such directory: {out.absolute().parent}")
    check_writable("--out", out.absolute().parent)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """While the file of `--out` is written.

    Raises:
        RunError: it cannot be; a full disk is named.
    """
    try:
        yield
    except OSError as error:
        raise RunError(full_disk(error, out) or f"{out}: {error.strerror or error}") from None
