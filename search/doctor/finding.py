"""One thing that is wrong, with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

type Level = Literal["error", "warning"]
type Found = Iterator[tuple[Level, str]]
"""What is wrong with a machine, whose name goes without saying."""


@dataclass(frozen=True)
class Finding:
    """`node`: the name of a machine, or of all."""

    level: Level
    node: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.node}: {self.message}"


def error(message: str) -> tuple[Level, str]:
    """A search cannot be, or goes wrong."""
    return "error", message


def warning(message: str) -> tuple[Level, str]:
    """A search may go on, and be slow or lose something."""
    return "warning", message
