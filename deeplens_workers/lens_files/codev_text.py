"""CODE V's command language: commands from lines, and what they apply to.

`;` parts commands, `&` at a line's end goes on with the next, `!` begins a comment, quotes hold text together. Of a keyword
the first three letters count.
"""

from __future__ import annotations

import re

from deeplens_workers.lens_files.prescription import BadLens
from deeplens_workers.lens_files.text import Command, short

TOKEN = re.compile(r"""'[^']*'|"[^"]*"|;|[^\s;'"]+""")
# Texts may hold a quote of their own: all of the line belongs to them, unless quotes around them end before a `;`.
QUOTED_TEXT = re.compile(r"""\s*(tit\w*|ini\w*)\s+('[^']*'|"[^"]*")\s*;(.*)""", re.IGNORECASE)
FREE_TEXT = re.compile(r"\s*(tit\w*|ini\w*)\b(.*)", re.IGNORECASE)
SURFACE = re.compile(r"S(\d{1,4}|O|I|S)", re.IGNORECASE)
RANGE = re.compile(r"S(\d{1,4}|O|I|S)\.\.S?(\d{1,4}|O|I|S)", re.IGNORECASE)


def commands(lines: list[str]) -> list[Command]:
    """All commands of a file.

    Raises:
        BadLens: a quote is not closed.
    """
    found: list[Command] = []
    private = False  # glasses of the user's own stand between PRV and END, by name
    for number, line in _joined(lines):
        while not private and (quoted := QUOTED_TEXT.fullmatch(line)):
            found.append(Command(number, quoted[1][:3].upper(), (quoted[2],)))
            line = quoted[3]
        text = FREE_TEXT.fullmatch(line)
        if text and not private:
            found.append(Command(number, text[1][:3].upper(), (text[2].strip(),)))
            continue
        words: list[str] = []
        for word in [*_tokens(number, line), ";"]:
            if word != ";":
                words.append(word)
            elif words:
                key = words[0].upper() if private else _keyword(words[0])
                private = key == "PRV" or (private and key != "END")
                found.append(Command(number, key, tuple(words[1:])))
                words = []
    return found


def _joined(lines: list[str]) -> list[tuple[int, str]]:
    """Lines without comments, continued ones joined, each with the number of its first."""
    joined: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        plain = _without_comment(line).rstrip()
        first, text = (number, plain) if begun is None else (begun[0], f"{begun[1]} {plain}")
        begun = (first, text[:-1]) if plain.endswith("&") else None
        if begun is None:
            joined.append((first, text))
    return [*joined, begun] if begun is not None else joined


def _without_comment(line: str) -> str:
    quote = ""
    for i, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "!":
            return line[:i]
    return line


def _tokens(number: int, line: str) -> list[str]:
    if TOKEN.sub("", line).strip():
        raise BadLens(f"line {number}: {short(line)}: a quote is not closed")
    return TOKEN.findall(line)


def _keyword(word: str) -> str:
    return word.upper()[:3] if word.isalpha() else word.upper()


def surface_range(word: str, image: int, stop: int | None) -> range | None:
    """Indices of the surfaces that S3, SO, SI, SS or S1..3 names; None: it names none.

    Args:
        image: index of the last surface.
        stop: index of the stop.
    """

    def index(name: str) -> int:
        named = {"O": 0, "I": image, "S": -1 if stop is None else stop}
        return named[name.upper()] if name.upper() in named else int(name)

    if match := SURFACE.fullmatch(word):
        return range(index(match[1]), index(match[1]) + 1)
    if match := RANGE.fullmatch(word):
        return range(index(match[1]), index(match[2]) + 1)
    return None
