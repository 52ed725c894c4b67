"""Mistakes that a JSON schema finds, as lines of the file, each unknown name with the nearest valid one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import validator_for
from referencing import Registry

from search.clusters.launch_file import Document, Finding
from spaces.errors import nearest


def check(document: Document, schema: Mapping[str, Any], registry: Registry[Any] | None = None) -> Iterator[Finding]:
    """Every mistake that the schema finds in a document."""
    validator = validator_for(schema)(schema, registry=registry or Registry())
    for error in validator.iter_errors(document.tree):
        yield from _findings(document, best_match([error]) or error)


def unknown(document: Document, path: tuple[str | int, ...], valid: list[str], of: str = "key") -> Iterator[Finding]:
    """Keys of the mapping at a path that are not valid there."""
    for key in document.mapping(*path):
        if key not in valid:
            yield Finding(
                document.line(*path, key), f"{dotted((*path, key))}: unknown {of}; {nearest(str(key), valid)}"
            )


def each(names: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of one and the same schema."""
    return dict.fromkeys(names, schema)


def dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))


def _findings(document: Document, error: ValidationError) -> Iterator[Finding]:
    path = tuple(error.absolute_path)
    line = document.line(*path)
    match error.validator:
        case "additionalProperties":
            yield from unknown(document, path, list(error.schema.get("properties", {})))
        case "required":
            for key in error.validator_value:
                if key not in error.instance:
                    yield Finding(line, f"{dotted((*path, key))}: missing")
        case "enum" | "const":
            valid = error.validator_value if error.validator == "enum" else [error.validator_value]
            yield Finding(
                line,
                f"{dotted(path)}: unknown value {error.instance!r}; {nearest(str(error.instance), [str(one) for one in valid])}",
            )
        case "type":
            wanted = error.validator_value
            yield Finding(
                line,
                f"{dotted(path)}: expected {wanted if isinstance(wanted, str) else ' or '.join(wanted)}, but got {error.instance!r}",
            )
        case _:
            yield Finding(line, f"{dotted(path)}: {error.message}")
