"""Space file + `--set` overrides -> Study. Every mistake is one line with file, key and the nearest valid name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from spaces.metrics import METRICS, OBJECTIVES
from spaces.study import Study
from spaces.trial import TRIALS

SPACES = Path(__file__).parent
LARGEST_GRID = 10_000
"""Points of the sampler `grid`, which lists them all."""


class SpaceError(ValueError):
    """Bad input: the message is one line for the user, naming file, key and what would be valid."""


@dataclass(frozen=True)
class _Problem(Exception):
    key: str
    message: str

    def told(self, where: str) -> SpaceError:
        return SpaceError(f"{where}: {self.key}{': ' if self.key else ''}{self.message}")


def available() -> list[str]:
    """Names of the shipped spaces."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """A hint for a misspelt name: the nearest valid one, or all of them."""
    close = get_close_matches(name, valid, n=1)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(valid)}"


def find(space: str) -> Path:
    """Path of a space given by shipped name or by path.

    Raises:
        SpaceError: neither exists.
    """
    path = SPACES / f"{space}.yaml"
    if path.is_file():
        return path
    path = Path(space)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    raise SpaceError(f"--space {space}: no such space; {nearest(space, available())}")


def load(space: str, overrides: list[str] | tuple[str, ...] = ()) -> Study:
    """Read a space by name or path and apply `key.path=value` overrides.

    Raises:
        SpaceError: one line naming file, key and the nearest valid name.
    """
    path = find(space)
    return override(_parse(path.read_text(), _shown(path)), overrides, _shown(path))


def override(tree: dict[str, Any], overrides: list[str] | tuple[str, ...], where: str) -> Study:
    """The study of a space's tree with `key.path=value` overrides; changes the tree.

    Raises:
        SpaceError: one line naming the override or `where`, the key and the nearest valid name.
    """
    origin: dict[str, str] = {}
    for one in overrides:
        key, equals, text = one.partition("=")
        if not equals or not key:
            raise SpaceError(f"--set {one}: expected key.path=value")
        _assign(tree, key, _parse(text, f"--set {one}", scalar=True), one)
        origin[key] = f"--set {one}"
    try:
        study = _validate(tree)
        _check_names(study)
        _check_budgets(study)
    except _Problem as problem:
        source = next((name for key, name in origin.items() if _related(key, problem.key)), where)
        raise problem.told(source) from None
    return study


def check[M: BaseModel](model: type[M], values: dict[str, Any], where: str) -> M:
    """A configuration model of `values`.

    Raises:
        SpaceError: one line naming `where`, the key and what is valid.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _first_problem(error, model).told(where) from None


def _shown(path: Path) -> str:
    """A path as the user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _related(override: str, key: str) -> bool:
    """Whether an override set the faulty key, a part of it, or something around it."""
    return (key + ".").startswith(override + ".") or (override + ".").startswith(key + ".")


def _parse(text: str, where: str, scalar: bool = False) -> Any:
    """YAML 1.2: `1e-4` is a number, `no` is a string, a key given twice is an error."""
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        raise SpaceError(f"{where}: line {line}: {str(error.problem).split(' with value')[0]}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SpaceError(f"{where}: line {mark.line + 1}: not valid YAML: {error.problem}") from None
    except YAMLError as error:
        raise SpaceError(f"{where}: not valid YAML: {error}") from None
    if not scalar and not isinstance(tree, dict):
        raise SpaceError(f"{where}: expected a mapping with the keys {', '.join(Study.model_fields)}")
    return tree


def _assign(tree: dict[str, Any], key: str, value: Any, override: str) -> None:
    *parents, last = key.split(".")
    for depth, name in enumerate(parents):
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise SpaceError(
                f"--set {override}: {'.'.join(parents[: depth + 1])} is a single value, it has no '{last}'"
            )
    tree[last] = value


def _validate(tree: dict[str, Any]) -> Study:
    _check_hyperparameters(tree)
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        raise _first_problem(error, Study) from None


def _check_hyperparameters(tree: dict[str, Any]) -> None:
    """A misspelt hyperparameter is told as such, before what its entry lacks."""
    model = TRIALS.get(str(tree.get("model")))
    if model is None:
        return  # the schema will say so
    for section in ("search", "fixed"):
        for name in tree[section] if isinstance(tree.get(section), dict) else ():
            if name not in model.model_fields:
                hint = nearest(name, list(model.model_fields))
                raise _Problem(f"{section}.{name}", f"unknown hyperparameter of {tree['model']}; {hint}")


def _first_problem(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> _Problem:
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
    return _Problem(".".join(prefix + _without_union_tags(loc)), message)


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


def _check_names(study: Study) -> None:
    """No name is both searched and fixed, every value is valid for the model, the metric is known."""
    if study.objective.metric not in OBJECTIVES:
        raise _Problem(
            "objective.metric",
            f"unknown metric '{study.objective.metric}'; {nearest(study.objective.metric, OBJECTIVES)}",
        )
    held_out = tuple(name for name in METRICS if name.startswith("val/"))
    others = [(f"further_objectives.{i}.metric", one.metric) for i, one in enumerate(study.further_objectives)]
    others += [(f"constraints.{i}.metric", one.metric) for i, one in enumerate(study.constraints)]
    for key, metric in others:
        if metric not in held_out:
            raise _Problem(key, f"unknown metric '{metric}'; {nearest(metric, held_out)}")
    if study.sampler == "grid" and (size := study.grid_size()) > LARGEST_GRID:
        raise _Problem(
            "sampler", f"the grid has {size:,} points, at most {LARGEST_GRID:,} are searched; fix parameters"
        )
    model = TRIALS[study.model]
    names = list(model.model_fields)
    for name, parameter in study.search.items():
        if name in study.fixed:
            raise _Problem(f"fixed.{name}", "is searched as well; keep one of the two")
        for other in parameter.when:
            if other not in names:
                raise _Problem(f"search.{name}.when.{other}", f"unknown hyperparameter; {nearest(other, names)}")
            if other in study.search and list(study.search).index(other) >= list(study.search).index(name):
                raise _Problem(f"search.{name}.when.{other}", f"`{other}` must be listed before `{name}`")
        if parameter.step is not None and study.is_integer(name) and parameter.step != int(parameter.step):
            raise _Problem(
                f"search.{name}.step", f"must be a whole number like the parameter, but got {parameter.step}"
            )
        edges = parameter.choices or tuple(edge for edge in (parameter.low, parameter.high) if edge is not None)
        for value in (*edges, parameter.recommended):
            _check_value(model, name, value, f"search.{name}")
    for index, (point, values) in enumerate(zip(study.points_to_evaluate, study.first_trials()[1:], strict=True)):
        for name, value in point.items():
            key = f"points_to_evaluate.{index}.{name}"
            if name not in study.search:
                raise _Problem(key, f"is not searched; {nearest(name, list(study.search))}")
            if name not in values:
                raise _Problem(key, f"`search.{name}.when` does not hold in this trial")
            _check_value(model, name, value, key)
            try:
                study.search[name].check(value, name)
            except ValueError as error:
                raise _Problem(key, str(error)) from None
    try:
        study.trial({})
    except ValidationError as error:
        raise _first_problem(error, model, ("fixed",)) from None


def _check_value(model: type[BaseModel], name: str, value: Any, key: str) -> None:
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        raise _Problem(key, _first_problem(error, model).message) from None


def _check_budgets(study: Study) -> None:
    """No trial is judged while its KL weight still warms up: an early loss would look better than it is."""
    warmup = study.search.get("kl_warmup")
    if warmup is None:
        longest = float(study.trial({}).model_dump().get("kl_warmup", 0.0))
    else:
        longest = max(float(edge) for edge in warmup.choices or (warmup.high,) if edge is not None)
    for preset, budget in study.budget.items():
        if budget.grace_steps < longest * budget.steps:
            raise _Problem(
                f"budget.{preset}.grace_steps",
                "`grace_steps >= kl_warmup * steps` must hold, so that rungs compare trials after warm-up, "
                f"but got (grace_steps={budget.grace_steps}, kl_warmup={longest}, steps={budget.steps})",
            )
