"""What the readers of lens files share: text in any encoding, numbers, and words for what is wrong in a line."""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass

from deeplens_workers.lens_files.prescription import BadLens

LARGEST_FILE = 1 << 22
# CODE V's exponents may be D, as Fortran's.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?")
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Command:
    """A keyword with its arguments, and the line where it begins. `key` is in upper case."""

    line: int
    key: str
    args: tuple[str, ...]
    indented: bool = False

    def error(self, why: str) -> BadLens:
        """The error that names this line and its keyword."""
        return BadLens(f"line {self.line}: {short(' '.join((self.key, *self.args)))}: {why}")

    def text(self, index: int) -> str:
        """An argument."""
        if index >= len(self.args):
            raise self.error(f"expected {index + 1} value{'s' if index else ''}, but got {len(self.args)}")
        return self.args[index]

    def number(self, index: int = 0, default: float | None = None) -> float:
        """An argument as a finite number; `default` if it is absent."""
        if index >= len(self.args) and default is not None:
            return default
        word = self.text(index)
        value = float(word.lower().replace("d", "e")) if NUMBER.fullmatch(word) else math.nan
        if not math.isfinite(value):
            raise self.error(f"expected a number, but got {short(word)!r}")
        return value

    def positive(self, index: int = 0) -> float:
        """An argument as a number above 0."""
        value = self.number(index)
        if value <= 0:
            raise self.error(f"expected a number above 0, but got {self.args[index]}")
        return value

    def whole(self, index: int = 0, default: int | None = None) -> int:
        """An argument as a whole number, 0 or more."""
        if index >= len(self.args) and default is not None:
            return default
        word = self.text(index)
        if not re.fullmatch(r"\d{1,6}", word):
            raise self.error(f"expected a whole number, but got {short(word)!r}")
        return int(word)

    def numbers(self) -> tuple[float, ...]:
        """All arguments as numbers."""
        return tuple(self.number(i) for i in range(len(self.args)))

    def zero(self, why: str, start: int = 0) -> None:
        """Refuse the command unless its numbers are all 0."""
        for i in range(start, len(self.args)):
            if self.number(i) != 0:
                raise self.error(why)


def decode(content: bytes) -> list[str]:
    """Lines of a text file: UTF-8 or UTF-16 with or without a mark, else Latin-1.

    Raises:
        BadLens: it is too large, or no text.
    """
    if len(content) > LARGEST_FILE:
        raise BadLens(f"a lens file has at most {LARGEST_FILE >> 20} MB, but this has {len(content) >> 20}")
    text = _decoded(content).rstrip("\x1a")  # DOS' end of a file
    if "\0" in text:
        raise BadLens("not a text file: it has zero bytes")
    return re.split(r"\r\n|\n|\r", text)


def _decoded(content: bytes) -> str:
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return _strict(content[len(mark) :], encoding)
    # Without a mark, UTF-16 shows by the zero byte of every character of plain English.
    for encoding, zeros in (("utf-16-le", content[1::2]), ("utf-16-be", content[::2])):
        if len(content) >= 4 and zeros.count(0) > 0.7 * len(zeros):
            return _strict(content, encoding)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _strict(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadLens(f"not text in {encoding}: {error.reason}") from None


def short(text: str) -> str:
    """Text for a message: one line of at most 60 characters."""
    plain = " ".join(text.split())
    return plain if len(plain) <= 60 else f"{plain[:57]}..."
