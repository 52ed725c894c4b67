"""`psf-search cache ls|verify|clear`: what lies in the cache of prepared data, whether it is sound, and making room."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.filesize import decimal

from results.narrow_table import NarrowTable
from results.run_directory import RunError
from search.api import CACHE
from search.storage.bucket import is_url
from spaces.errors import SpaceError

if TYPE_CHECKING:
    from spaces.store import Entry

WIDE = 120  # columns of the table where the output is no terminal, so that nothing is wrapped in a file or a pipe

app = typer.Typer(no_args_is_help=True, help="List, verify and clear the prepared data that searches share.")

CacheOption = Annotated[Path, typer.Option("--cache", metavar="DIR", help="Directory of rendered data sets.")]


@app.command("ls")
def list_entries(
    cache: CacheOption = CACHE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List what is cached, least recently used first."""
    with _disk(cache):
        from spaces.store import entries

        rows = [_describe(entry) for entry in entries(cache)]
    if as_json:
        print(json.dumps({"entries": rows, "bytes": sum(row["bytes"] for row in rows)}, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else WIDE, markup=False).print(_table(rows))


@app.command()
def verify(
    cache: CacheOption = CACHE,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the corrupt entries.")] = False,
) -> None:
    """Check every checksum; exit code 1 if an entry is corrupt."""
    with _disk(cache):
        from spaces.store import CorruptEntry, discard, entries
        from spaces.store import verify as verify_entry

        if remove:
            _refuse_foreign(cache)
        present, corrupt = entries(cache), 0
        for entry in present:
            try:
                verify_entry(entry.path)
            except CorruptEntry as error:
                if not entry.path.exists():
                    continue  # evicted since it was listed
                corrupt += 1
                print(f"corrupt{', removed' if remove else ''}: {error}")
                if remove:
                    discard(entry.path)
    print(f"{_count(present)} checked, {corrupt} corrupt")
    if corrupt:
        raise typer.Exit(1)


@app.command()
def clear(
    cache: CacheOption = CACHE,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Only what has not been used for so many days.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Only the least recently used, until the rest fits, such as 2GB.")
    ] = None,
) -> None:
    """Remove what is cached: everything, or what --older-than and --to say. A search makes again what it misses."""
    limit = None if to is None else _bytes(to)
    with _disk(cache):
        from spaces.store import entries, evict, expire

        _refuse_foreign(cache)
        removed: list[Entry] = []
        if older_than is not None or limit is None:
            removed += expire(cache, float("inf") if older_than is None else time.time() - older_than * 24 * 3600)
        if limit is not None:
            removed += evict(cache, limit)
        left = entries(cache)
    print(f"removed {_count(removed)}, {_size(removed)}; {_count(left)} left, {_size(left)}")


@contextmanager
def _disk(cache: Path) -> Iterator[None]:
    """Turn what the disk refuses into the command line's one-line errors.

    Raises:
        SpaceError: `cache` is not a directory. A missing one is an empty cache.
        RunError: it cannot be read or changed.
    """
    if is_url(str(cache)):
        raise SpaceError(f"--cache {cache}: expected a directory; what a bucket keeps is up to its own rules")
    if cache.exists() and not cache.is_dir():
        raise SpaceError(f"--cache {cache}: not a directory")
    try:
        yield
    except OSError as error:
        raise RunError(f"{error.filename or cache}: {error.strerror}") from None


def _refuse_foreign(cache: Path) -> None:
    """Raises SpaceError if a directory holds anything that no cache does, so that nothing in it is removed."""
    from spaces.store import foreign

    if others := foreign(cache):
        raise SpaceError(
            f"--cache {cache}: not a cache: it holds {others[0].name}"
            f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}; nothing was removed"
        )


def _bytes(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise SpaceError(f"--to {text}: not a size; valid: bytes, or such as 500MB, 2GB, 10GiB") from None


def _describe(entry: Entry) -> dict[str, Any]:
    """One entry for machines; what its manifest does not tell is None."""
    from spaces.store import CorruptEntry, manifest

    content: dict[str, Any] = {}
    items = None
    try:
        content = manifest(entry.path)
        parameters = dict(content["parameters"])
        items = next(iter(content["files"].values()))["shape"][0]
        damaged = False
    except (CorruptEntry, AttributeError, KeyError, IndexError, StopIteration, TypeError, ValueError):
        parameters, damaged = {}, True
    source = content.get("source")
    return {
        "key": entry.path.name,
        "source": source.get("name") if isinstance(source, dict) else None,
        "damaged": damaged,
        "items": items,
        "wavelengths_um": _wavelengths(parameters),
        "kernel_px": parameters.get("kernel_px"),
        "rays": parameters.get("rays"),
        "bytes": entry.size,
        "last_use": datetime.fromtimestamp(entry.last_use).astimezone().isoformat(timespec="seconds"),
    }


def _wavelengths(parameters: dict[str, Any]) -> list[float] | None:
    """All wavelengths in um of rendered kernels, each once, from those of every channel with their weights."""
    if not isinstance(parameters.get("channels"), list):
        return None
    return list(dict.fromkeys(wavelength for channel in parameters["channels"] for wavelength, _ in channel))


def _table(rows: list[dict[str, Any]]) -> NarrowTable:
    table = NarrowTable(box=None, pad_edge=False, show_footer=True)
    table.add_column("made of", _count(rows))
    for heading in ("items", "wavelengths (um)", "kernel (px)", "rays"):
        table.add_column(heading, justify="right")
    table.add_column("MB", f"{sum(row['bytes'] for row in rows) / 1e6:,.1f}", justify="right")
    table.add_column("last use")
    table.add_column("key", no_wrap=True)
    for row in rows:
        table.add_row(
            "damaged" if row["damaged"] else row["source"] or "-",
            _or_dash(row["items"]),
            " ".join(f"{wavelength:g}" for wavelength in row["wavelengths_um"] or []) or "-",
            _or_dash(row["kernel_px"]),
            _or_dash(row["rays"]),
            f"{row['bytes'] / 1e6:,.1f}",
            f"{datetime.fromisoformat(row['last_use']):%Y-%m-%d %H:%M}",
            row["key"][:12],
        )
    return table


def _or_dash(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _count(found: Sized) -> str:
    return f"{len(found)} {'entry' if len(found) == 1 else 'entries'}"


def _size(found: list[Entry]) -> str:
    return decimal(sum(entry.size for entry in found))
