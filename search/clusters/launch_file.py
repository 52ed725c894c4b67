"""A launch file as it was written: what it says, and on which line it says it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MantissaNoDotYAML1_1Warning, MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from spaces.errors import SpaceError

type Keys = tuple[str | int, ...]
"""Keys and indices that lead to a value."""
PLACEHOLDER = re.compile(r"<[a-z][a-z0-9-]*>")
"""What is still to be filled in."""


@dataclass(frozen=True, order=True)
class Finding:
    """What is wrong in a line of a launch file, counted from 1."""

    line: int
    message: str


@dataclass(frozen=True)
class Unchecked:
    """What could not be checked, and what it would take."""

    message: str


type Result = Finding | Unchecked


@dataclass(frozen=True)
class Node:
    """Machines of one kind that a launch file asks for, where training may run. None: not known before they are there."""

    name: str
    count: int
    cpus: float | None
    gpus: float | None


@dataclass(frozen=True)
class Command:
    """A piece of shell in a launch file.

    Args:
        line: of its first word.
        source: as it stands in the file, from `begin`, a line's number, on; empty if it is the text itself.
        cut: what YAML took for a comment and left out, an unquoted ` #` and all behind it; empty if there is none.
    """

    text: str
    line: int
    key: str
    source: str = ""
    begin: int = 1
    cut: str = ""

    def line_of(self, offset: int) -> int:
        """The line of the word that begins at a character of the text, whatever YAML has folded."""
        source = self.source or self.text
        word = re.match(r"\S*", self.text[offset:])
        assert word is not None
        if not word[0]:
            return self.line
        at = -1
        for _ in range(self.text.count(word[0], 0, offset) + 1):
            at = source.find(word[0], at + 1)
            if at < 0:  # YAML has written it otherwise
                return self.line
        return self.begin + source.count("\n", 0, at)


@dataclass(frozen=True)
class Document:
    """One YAML document of a file.

    `tree` is what the platforms' own parsers make of it (YAML 1.1), `root` is where each part of it was written.
    """

    tree: Any
    root: YamlNode
    text: str

    def get(self, *path: str | int, default: Any = None) -> Any:
        """The value at a path, or the default."""
        found = self.tree
        for part in path:
            try:
                found = found[part]
            except (KeyError, IndexError, TypeError):
                return default
        return found

    def mapping(self, *path: str | int) -> dict[Any, Any]:
        """The mapping at a path; an empty one if there is none."""
        found = self.get(*path)
        return found if isinstance(found, dict) else {}

    def items(self, *path: str | int) -> list[Any]:
        """The list at a path; an empty one if there is none."""
        found = self.get(*path)
        return found if isinstance(found, list) else []

    def number(self, *path: str | int, default: float | None = None) -> float | None:
        """The number at a path, also one that is written as text, such as "8+"; the default if there is none."""
        found = re.match(r"\d+(\.\d+)?", str(self.get(*path)))
        return float(found[0]) if found else default

    def line(self, *path: str | int) -> int:
        """The line of the key or the item that a path leads to, or of the last part of it that is there."""
        node, line = self.root, int(self.root.start_mark.line)
        for part in path:
            found = _below(node, part)
            if found is None:
                break
            line, node = found
        return line + 1

    def command(self, *path: str | int) -> Command:
        """The text at a path as a piece of shell."""
        node = self.root
        for part in path:
            found = _below(node, part)
            assert found is not None
            node = found[1]
        text, mark, end = self.get(*path), node.start_mark, node.end_mark
        block = isinstance(node, ScalarNode) and node.style in ("|", ">")
        return Command(
            text if isinstance(text, str) else "",
            mark.line + 1 + block,
            ".".join(map(str, path)),
            self.text[mark.index : end.index],
            mark.line + 1,
            self._cut(node),
        )

    def commands(self, *path: str | int) -> list[Command]:
        """Each item of the list at a path as a piece of shell."""
        return [self.command(*path, index) for index in range(len(self.items(*path)))]

    def _cut(self, node: YamlNode) -> str:
        if not isinstance(node, ScalarNode) or node.style is not None:
            return ""
        rest = self.text.splitlines()[node.end_mark.line][node.end_mark.column :]
        return rest.strip() if re.match(r"\s+#", rest) else ""

    def scalars(self) -> Iterator[tuple[Keys, Any]]:
        """Every value that is no mapping and no list, with its path."""
        return _scalars(self.tree, ())


@dataclass(frozen=True)
class LaunchFile:
    """A file that starts a cluster, or a search on one."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> LaunchFile:
        """Raises SpaceError: it cannot be read."""
        try:
            return cls(path, path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a text file"
            raise SpaceError(f"{path}: cannot be read: {why}") from None

    @cached_property
    def documents(self) -> list[Document]:
        """What a YAML file holds, one or several documents.

        Raises:
            SpaceError: it is not YAML; a key that stands twice is a mistake, too.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MantissaNoDotYAML1_1Warning)
                trees = list(_yaml().load_all(self.text))
                roots = list(_yaml().compose_all(self.text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = str(error.problem).split(" with value")[0]
            raise SpaceError(f"{self.path}:{mark.line + 1}: not valid YAML: {said}") from None
        except YAMLError as error:
            raise SpaceError(f"{self.path}: not valid YAML: {error}") from None
        pairs = zip(trees, roots, strict=True)
        return [Document(tree, root, self.text) for tree, root in pairs if isinstance(tree, dict)]

    def placeholders(self) -> list[Finding]:
        """What is still to be filled in; comments may name it."""
        return [
            Finding(number, f"fill in {found.group()}")
            for number, line in enumerate(self.text.splitlines(), start=1)
            for found in PLACEHOLDER.finditer(re.sub(r"(^|\s)#(?!SBATCH).*", "", line))
        ]


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)  # type: ignore[assignment]  # which Ray, kubectl and SkyPilot read
    return yaml


def _below(node: YamlNode, part: str | int) -> tuple[int, YamlNode] | None:
    """The line and the node of one part of a mapping or a list."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if str(key.value) == str(part):
                return key.start_mark.line, value
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None


def _scalars(tree: Any, path: Keys) -> Iterator[tuple[Keys, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _scalars(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _scalars(value, (*path, index))
    else:
        yield path, tree
