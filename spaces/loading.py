"""Space file + `--set` overrides -> Study. Every mistake is one line with file, key and the nearest valid name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from spaces.errors import Problem, SpaceError, first_problem, nearest
from spaces.study import Study
from spaces.system import SYSTEMS, System, system

SPACES = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")
LARGEST_GRID = 10_000
"""Points of the sampler `grid`, which lists them all."""


def available() -> list[str]:
    """Names of the shipped spaces."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def find(space: str) -> Path:
    """Path of a space given by shipped name or by path.

    Raises:
        SpaceError: neither exists.
    """
    path = SPACES / f"{space}.yaml"
    if path.is_file():
        return path
    path = Path(space)
    if path.suffix in SUFFIXES:
        if path.is_file():
            return path
        raise SpaceError(f"--space {space}: no such file; the shipped spaces are {', '.join(available())}")
    raise SpaceError(f"--space {space}: no such space; {nearest(space, available())}")


def load(space: str, overrides: list[str] | tuple[str, ...] = ()) -> Study:
    """Read a space by name or path, with what it is based on, and apply `key.path=value` overrides.

    Raises:
        SpaceError: one line naming file, key and the nearest valid name.
    """
    tree, where = read(space)
    return override(tree, overrides, where)


def read(space: str) -> tuple[dict[str, Any], str]:
    """What a space by name or path holds, with what it is based on, not yet checked; and what to call it in errors.

    Raises:
        SpaceError: there is no such space, or it is not YAML.
    """
    path = find(space)
    return _tree(path), _shown(path)


def _tree(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a space file holds. One with `base:` holds what that space does, with its own keys over it; null takes a key away."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{_shown(path)}: cannot be read: {error}") from None
    tree: dict[str, Any] = parse(text, _shown(path))
    base = tree.pop("base", None)
    if base is None:
        return tree
    if path.resolve() in above:
        raise SpaceError(f"{_shown(path)}: base: the space is based on itself")
    try:
        beside = path.parent / str(base)
        below = beside if beside.suffix in SUFFIXES and beside.is_file() else find(str(base))
    except SpaceError:
        raise SpaceError(f"{_shown(path)}: base: no such space '{base}'; {nearest(str(base), available())}") from None
    return _over(_tree(below, (*above, path.resolve())), tree)


def _over(base: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in tree.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _over(merged[key], value)
        else:
            merged[key] = value
    return merged


def choose_preset(tree: dict[str, Any], preset: str, where: str) -> dict[str, str]:
    """Put what a space sets for a preset (`budget.PRESET.set`) in its place; changes the tree.

    Returns:
        Key -> what to call the place that it was set at, in errors.

    Raises:
        SpaceError: a key leads through a single value.
    """
    budgets = tree.get("budget")
    budget = budgets.get(preset) if isinstance(budgets, dict) else None
    values = budget.get("set") if isinstance(budget, dict) else None
    found = values if isinstance(values, dict) else {}
    for key, value in found.items():
        _assign(tree, key, value, f"{where}: budget.{preset}.set.{key}")
    return dict.fromkeys(found, f"{where}: budget.{preset}.set")


def override(
    tree: dict[str, Any],
    overrides: list[str] | tuple[str, ...],
    where: str,
    preset: Mapping[str, str] | None = None,
) -> Study:
    """The study of a space's tree with `key.path=value` overrides; changes the tree.

    Args:
        preset: what `choose_preset` returned.

    Raises:
        SpaceError: one line naming the override or `where`, the key and the nearest valid name.
    """
    given: dict[str, str] = {}
    for one in overrides:
        key, equals, text = one.partition("=")
        if not equals or not key:
            raise SpaceError(f"--set {one}: expected key.path=value")
        _assign(tree, key, parse(text, f"--set {one}", scalar=True), f"--set {one}")
        given[key] = f"--set {one}"
    try:
        study = _validate(tree)
        _check_names(study)
        _check_budgets(study)
        _check_data(study)
    except Problem as problem:
        raise problem.at(_set_by(given, problem.key) or _set_by(preset or {}, problem.key) or where) from None
    return study


def _set_by(origin: Mapping[str, str], key: str) -> str:
    """Everything that may have set the faulty key, a part of it, or something around it."""
    return " ".join(dict.fromkeys(name for other, name in origin.items() if _related(other, key)))


def _shown(path: Path) -> str:
    """A path as the user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _related(override: str, key: str) -> bool:
    """Whether an override set the faulty key, a part of it, or something around it."""
    return (key + ".").startswith(override + ".") or (override + ".").startswith(key + ".")


def as_yaml(tree: Mapping[str, Any], *, block: bool = False) -> str:
    """What `parse` reads back: the innermost values beside each other, or with `block` each on a line of its own."""
    text, yaml = StringIO(), YAML()
    yaml.default_flow_style = False if block else None
    yaml.width = 120
    yaml.dump(tree, text)
    return text.getvalue()


def parse(text: str, where: str, scalar: bool = False) -> Any:
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
            raise SpaceError(f"{override}: {'.'.join(parents[: depth + 1])} is a single value, it has no '{last}'")
    tree[last] = value


def _validate(tree: dict[str, Any]) -> Study:
    """In two parts: what a data section has, only the system knows."""
    if "model" not in tree:
        raise Problem("model", "missing")
    try:
        declared = system(str(tree["model"]))
    except LookupError as error:
        raise Problem("model", f"{error}; {nearest(str(tree['model']), list(SYSTEMS))}") from None
    _check_hyperparameters(tree, declared)
    try:
        tree = {**tree, "data": declared.data.model_validate(tree["data"])} if "data" in tree else tree
    except ValidationError as error:
        raise first_problem(error, declared.data, ("data",)) from None
    try:
        return Study.model_validate(tree)
    except ValidationError as error:
        raise first_problem(error, Study) from None


def _check_hyperparameters(tree: dict[str, Any], declared: System) -> None:
    """A misspelt hyperparameter is told as such, before what its entry lacks."""
    names = list(declared.trial.model_fields)
    for section in ("search", "fixed"):
        for name in tree[section] if isinstance(tree.get(section), dict) else ():
            if name not in names:
                raise Problem(f"{section}.{name}", f"unknown hyperparameter of {declared.name}; {nearest(name, names)}")


def _check_names(study: Study) -> None:
    """No name is both searched and fixed, every value is valid for the model, the metrics are known."""
    _check_metrics(study)
    if study.sampler == "grid" and (size := study.grid_size()) > LARGEST_GRID:
        raise Problem("sampler", f"the grid has {size:,} points, at most {LARGEST_GRID:,} are searched; fix parameters")
    model = study.system.trial
    names = list(model.model_fields)
    for name, parameter in study.search.items():
        if name in study.fixed:
            raise Problem(f"fixed.{name}", "is searched as well; keep one of the two")
        for other in parameter.when:
            if other not in names:
                raise Problem(f"search.{name}.when.{other}", f"unknown hyperparameter; {nearest(other, names)}")
            if other in study.search and list(study.search).index(other) >= list(study.search).index(name):
                raise Problem(f"search.{name}.when.{other}", f"`{other}` must be listed before `{name}`")
        if parameter.step is not None and study.is_integer(name) and parameter.step != int(parameter.step):
            raise Problem(f"search.{name}.step", f"must be a whole number like the parameter, but got {parameter.step}")
        edges = parameter.choices or tuple(edge for edge in (parameter.low, parameter.high) if edge is not None)
        for value in (*edges, parameter.recommended):
            _check_value(model, name, value, f"search.{name}")
    for index, (point, values) in enumerate(zip(study.points_to_evaluate, study.first_trials()[1:], strict=True)):
        for name, value in point.items():
            key = f"points_to_evaluate.{index}.{name}"
            if name not in study.search:
                raise Problem(key, f"is not searched; {nearest(name, list(study.search))}")
            if name not in values:
                raise Problem(key, f"`search.{name}.when` does not hold in this trial")
            _check_value(model, name, value, key)
            try:
                study.search[name].check(value, name)
            except ValueError as error:
                raise Problem(key, str(error)) from None
    try:
        study.trial({})
    except ValidationError as error:
        raise first_problem(error, model, ("fixed",)) from None


def _check_data(study: Study) -> None:
    """The given trials go together, and every choice that a trial may make can be trained on the data."""
    recommended, *given = study.first_trials()
    for key, values in [("fixed", recommended), *((f"points_to_evaluate.{i}", one) for i, one in enumerate(given))]:
        try:
            study.data.check(study.trial(values))
        except ValidationError as error:
            what = "with the recommended values: " if values is recommended else ""
            raise Problem(key, what + first_problem(error, study.system.trial).message) from None
        except ValueError as error:
            raise Problem("data" if values is recommended else key, str(error)) from None
    places = [
        (f"search.{name}", {**recommended, name: choice})
        for name, parameter in study.search.items()
        for choice in parameter.choices or ()
    ]
    for key, values in places:
        try:
            trial = study.trial(values)
        except ValidationError:
            continue  # a combination that conditions exclude
        try:
            study.data.check(trial)
        except ValueError as error:
            raise Problem(key, str(error)) from None


def _check_metrics(study: Study) -> None:
    metrics, objectives, measured = study.system.metrics, study.system.objectives, study.system.measured
    if study.objective.metric in measured and study.objective.metric not in objectives:
        raise Problem(
            "objective.metric",
            f"'{study.objective.metric}' is a diagnostic, or has no value for each held-out item, which the finals' intervals "
            f"need; valid: {', '.join(objectives)}",
        )
    named = [("objective.metric", study.objective.metric, objectives)]
    named += [
        (f"further_objectives.{i}.metric", one.metric, measured) for i, one in enumerate(study.further_objectives)
    ]
    named += [(f"constraints.{i}.metric", one.metric, measured) for i, one in enumerate(study.constraints)]
    for key, metric, valid in named:
        if metric not in valid:
            raise Problem(key, f"unknown metric '{metric}'; {nearest(metric, valid)}")
        if not study.data.measures(metric):
            fitting = ", ".join(one for one in valid if study.data.measures(one))
            raise Problem(key, f"'{metric}' is not measured on such data; valid: {fitting}")
    for key, one in (
        ("objective", study.objective),
        *((f"further_objectives.{i}", one) for i, one in enumerate(study.further_objectives)),
    ):
        mode = metrics[one.metric].mode
        if mode is not None and one.mode != mode:  # of a diagnostic, such as the rate, both can be wanted
            raise Problem(key, f"{one.metric} is better {mode}, but got (mode={one.mode})")


def _check_value(model: type[BaseModel], name: str, value: Any, key: str) -> None:
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        # What does not go with the defaults of others may go with what the space fixes: given trials are checked as a whole.
        if any(one["loc"] for one in error.errors()):
            raise Problem(key, first_problem(error, model).message) from None


def _check_budgets(study: Study) -> None:
    """No trial is judged while its KL weight still warms up: an early loss would look better than it is."""
    warmup = study.search.get("kl_warmup")
    if warmup is None:
        longest = float(study.trial({}).model_dump().get("kl_warmup", 0.0))
    else:
        longest = max(float(edge) for edge in warmup.choices or (warmup.high,) if edge is not None)
    for preset, budget in study.budget.items():
        if budget.grace_steps < longest * budget.steps:
            raise Problem(
                f"budget.{preset}.grace_steps",
                "`grace_steps >= kl_warmup * steps` must hold, so that rungs compare trials after warm-up, "
                f"but got (grace_steps={budget.grace_steps}, kl_warmup={longest}, steps={budget.steps})",
            )
