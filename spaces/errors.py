"""Errors for users: one line that names the file or option, the key, and what would be valid."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError


class SpaceError(ValueError):
    """Bad input: the message is one line for the user, naming file, key and what would be valid."""


@dataclass(frozen=True)
class Problem(Exception):
    """What is wrong with the value of a key, before it is known where the key was read."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message

    def at(self, where: str) -> SpaceError:
        """The error for the user, naming the file or option."""
        return SpaceError(f"{where}: {self}")


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """A hint for a misspelt name: the nearest valid one, or all of them."""
    return near(name, valid) or f"valid: {', '.join(valid)}"


def near(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """A hint for a misspelt name: the nearest valid one; nothing if none is near."""
    close = get_close_matches(name, valid, n=1)
    return f"did you mean '{close[0]}'?" if close else ""


def check[M: BaseModel](model: type[M], values: dict[str, Any], where: str) -> M:
    """A configuration model of `values`.

    Raises:
        SpaceError: one line naming `where`, the key and what is valid.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise first_problem(error, model).at(where) from None


def first_problem(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Problem:
    """The first mistake that pydantic found in the values of a model, in our words.

    Args:
        prefix: keys above the model's own.
    """
    errors = error.errors()
    # A misspelt key is also a missing one: name the misspelling.
    first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
    loc = tuple(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; {nearest(loc[-1], _keys_at(model, loc[:-1]))}"
    elif first["type"] == "missing":
        message = "missing"
    elif first["type"] == "literal_error" and loc[-1] == "[key]":
        loc, message = loc[:-1], f"unknown key; {nearest(loc[-2], _literal_keys(first))}"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:]}, but got {first['input']!r}"
    return Problem(".".join(prefix + _without_union_tags(loc)), message)


def _literal_keys(first: Any) -> list[str]:
    return [name.strip("' ") for name in first["ctx"]["expected"].replace(" or ", ", ").split(",")]


def _without_union_tags(loc: tuple[str, ...]) -> tuple[str, ...]:
    """pydantic names the tried type of a union as a last part of the location (`low.int`)."""
    return tuple(part for part in loc if part not in ("int", "float", "str", "bool") and "[" not in part)


def _keys_at(model: type[BaseModel], loc: tuple[str, ...]) -> list[str]:
    """Valid keys of the mapping at `loc` inside a model."""
    annotation: Any = model
    for part in loc:
        annotation = _without_none(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = annotation.model_fields[part].annotation
        else:  # dict[str, X] or tuple[X, ...]
            annotation = get_args(annotation)[0 if get_origin(annotation) is tuple else 1]
    return list(_without_none(annotation).model_fields)


def _without_none(annotation: Any) -> Any:
    """`X` of `X | None`."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    return members[0] if len(members) == 1 and type(None) in get_args(annotation) else annotation
