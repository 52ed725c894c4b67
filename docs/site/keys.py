"""Tables of what a space file may say, from the models that check it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from spaces.loading import available, load
from spaces.study import Budget, Constraint, Objective, Parameter, Resources, Study
from spaces.system import SYSTEMS, system
from spaces.trial import Trial

Schema = Mapping[str, Any]
PLAIN = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`", "null": "none"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": "&gt;", "maximum": "≤", "exclusiveMaximum": "&lt;"}
SECTIONS = {"Parameter": "search", "Objective": "objective", "Constraint": "constraints", "Budget": "budget"}
WRITTEN = ("lens_facts",)
"""Keys that a run writes, and no user."""


def study_keys() -> str:
    """The keys of a space file, and of its generic sections."""
    return "\n\n".join(
        [
            _table(Study),
            "## search\n\nEach entry is a hyperparameter of the model with these keys.\n\n" + _table(Parameter),
            "## objective\n\n`further_objectives` are a list of the same.\n\n" + _table(Objective),
            "## constraints\n\nA list of entries with these keys.\n\n" + _table(Constraint),
            "## budget\n\nOne entry for each of `quick`, `standard` and `full`.\n\n" + _table(Budget),
            "## resources\n\n" + _table(Resources),
        ]
    )


def hyperparameters() -> str:
    """What `search` and `fixed` may name, of every system and of each."""
    parts = ["### of every model\n\n" + _table(Trial)]
    for name in SYSTEMS:
        trial = system(name).trial
        parts.append(f"### of {name}\n\nBeside those, or with other defaults:\n\n{_table(trial, Trial)}")
    return "\n\n".join(parts)


def data_sections() -> str:
    """The keys of `data`, for each system."""
    parts, told = [], set[str]()
    for name in SYSTEMS:
        data = system(name).data
        parts.append(f"### data of {name}\n\n{_table(data)}")
        for inner, schema in data.model_json_schema().get("$defs", {}).items():
            if schema.get("type") == "object" and inner not in told and inner != "LensFacts":
                told.add(inner)
                about = " ".join(schema.get("description", "").split("\n\n")[0].split())
                parts.append(f"### {inner}\n\n{_cell(about)}\n\n{_rows(schema, data.model_json_schema(), {})}")
    return "\n\n".join(parts)


def metrics() -> str:
    """What trials of each system report."""
    parts = []
    for name in SYSTEMS:
        found = system(name)
        rows = ["| metric | unit | better | what it is |", "|---|---|---|---|"]
        for one in found.metrics.values():
            better = {"min": "lower", "max": "higher", None: ""}[one.mode]
            bold = "**" if one.name in found.objectives else ""
            rows.append(f"| {bold}`{one.name}`{bold} | {one.unit} | {better} | {_cell(one.meaning)} |")
        parts.append(f"### metrics of {name}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def shipped() -> str:
    """The spaces that come with the program: what they search, over which ranges."""
    parts = []
    for name in available():
        study = load(name)
        rows = ["| hyperparameter | range | recommended | impact | source |", "|---|---|---|---|---|"]
        for key, one in study.search.items():
            rows.append(
                f"| `{key}` | {_range(one)} | {_value(one.recommended)} | {one.impact or ''} | {_cell(one.source)} |"
            )
        presets = [
            f"`{preset}` {budget.trials} trials of {budget.steps:,} steps" for preset, budget in study.presets().items()
        ]
        about = (
            f"{study.description}. Model `{study.model}`, objective `{study.objective.metric}`; {', '.join(presets)}."
        )
        parts.append(f"## {name}\n\n{about}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _range(one: Parameter) -> str:
    when = "".join(f", when `{name}` is {' or '.join(map(_value, values))}" for name, values in one.when.items())
    if one.choices is not None:
        return ", ".join(map(_value, one.choices)) + when
    assert one.low is not None
    assert one.high is not None
    step = f", step {one.step:g}" if one.step else ""
    return f"{one.low:g} to {one.high:g}{', log' if one.log else ''}{step}{when}"


def _table(model: type[BaseModel], base: type[BaseModel] | None = None) -> str:
    """The fields of a model, or those that its base does not have alike."""
    schema = model.model_json_schema()
    return _rows(schema, schema, base.model_json_schema()["properties"] if base else {})


def _rows(schema: Schema, root: Schema, known: Schema) -> str:
    rows = ["| key | values | default | what it is |", "|---|---|---|---|"]
    for name, field in schema["properties"].items():
        if name in WRITTEN or known.get(name) == field:
            continue
        default = "required" if name in schema.get("required", ()) else _value(field.get("default"))
        if isinstance(field.get("default"), dict) and field["default"]:  # a section with defaults of its own
            default = "its own"
        rows.append(f"| `{name}` | {_values(field, root)} | {default} | {_cell(field.get('description', ''))} |")
    return "\n".join(rows)


def _values(field: Schema, root: Schema) -> str:
    """What a key takes, in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        inner = root["$defs"][name]
        if "properties" not in inner or name == "DataSection":
            return "[its section](#data)" if name == "DataSection" else _values(inner, root)
        return f"[{SECTIONS.get(name, name)}](#{SECTIONS.get(name, name).lower()})"
    if "enum" in field:
        return ", ".join(map(_value, field["enum"]))
    if "const" in field:
        return _value(field["const"])
    if "anyOf" in field:
        kinds = dict.fromkeys(_values(one, root) for one in field["anyOf"])
        if PLAIN["number"] in kinds:
            kinds.pop(PLAIN["integer"], None)
        return " or ".join(kinds)
    if field.get("type") == "array":
        if "prefixItems" in field:
            return "[" + ", ".join(_values(one, root) for one in field["prefixItems"]) + "]"
        return f"list of {_values(field['items'], root)}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties", True)
        return f"mapping to {_values(inner, root)}" if isinstance(inner, Mapping) else "mapping"
    bounds = [f"{sign} {_number(field[key])}" for key, sign in BOUNDS.items() if key in field]
    return " ".join([PLAIN.get(field.get("type", ""), "any value"), ", ".join(bounds)]).strip()


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _value(value: Any) -> str:
    """A value as YAML has it."""
    return "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;").replace("[", r"\[")
