"""Options of the command line that several commands read alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplens_workers.measured import check_fits
from results.run_directory import RunError
from search.plan import check_writable
from spaces.disk import full_disk
from spaces.errors import SpaceError
from spaces.seeding import LARGEST_SEED

DIRECTORY = "DIRECTORY|s3://BUCKET/PREFIX"
RunsRoot = Annotated[str, typer.Option("--out", metavar=DIRECTORY, help="Where the runs are kept.")]
SensorOption = Annotated[str | None, typer.Option(metavar="WxH", help="Sensor in mm; default: the lens file's.")]
ConfigurationOption = Annotated[
    int | None, typer.Option(min=1, help="Which of the lens file's configurations; default: the first.")
]

OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key of the space.")
]
LensOption = Annotated[str | None, typer.Option(help="Shipped lens name or .json, .zmx, .seq file; same as data.lens.")]


def seed_option(of_what: str) -> Any:
    """A seed that every generator takes."""
    return typer.Option(min=0, max=LARGEST_SEED, help=of_what)


def numbers(option: str, text: str, example: str, kind: type[float] = float) -> list[Any]:
    """Numbers of an option such as 0.486,0.587, or two of them such as 36x24.

    Raises:
        SpaceError: it holds something else than the example does, or a pair has not two.
    """
    separator = "x" if "x" in example else ","
    try:
        values = [kind(part) for part in text.split(separator)]
    except ValueError:
        values = []
    if not values or (separator == "x" and len(values) != 2):
        raise SpaceError(f"{option}: expected numbers such as {example}, but got {text!r}")
    return values


def check_out(out: Path, suffixes: Sequence[str], inputs: Iterable[Path | None] = (), option: str = "--out") -> None:
    """That a file of `--out`, or another option, can be written.

    Args:
        inputs: files that are read, and must stay.

    Raises:
        SpaceError: another suffix, a library that its format needs is not there, no directory to write to, or it is an input.
    """
    if out.suffix not in suffixes:
        raise SpaceError(f"{option}: expected a file ending in {', '.join(suffixes)}, but got {out}")
    if out.suffix == ".fits":
        check_fits(option)
    if not out.absolute().parent.is_dir():
        raise SpaceError(f"{option}: no such directory: {out.absolute().parent}")
    check_writable(option, out.absolute().parent)
    if out.is_dir():
        raise SpaceError(f"{option}: {out} is a directory")
    for one in inputs:
        if one is not None and out.exists() and one.exists() and out.samefile(one):
            raise SpaceError(f"{option}: {out} is read by this command; name another file")


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
