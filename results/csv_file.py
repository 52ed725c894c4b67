"""Trials as a CSV file, a row each, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spaces.files import write


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under a heading of all their keys; a key that a row lacks, or None, is an empty cell.

    Raises:
        OSError: the file cannot be written.
    """
    rows = list(rows)
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue().encode())
