"""What a cloud's own interface accepts as a machine: the part of `ray up` files that Ray passes on without looking at it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from typing import Any

from search.clusters.launch_file import Document, Finding, Keys, Result, Unchecked
from search.clusters.schema import dotted, unknown
from spaces.errors import nearest

PACKAGES = {"aws": "botocore", "gcp": "googleapiclient"}
RAYS_OWN = {"aws": ("SubnetIds",), "gcp": ("sourceInstanceTemplate",)}
"""What Ray takes from a node_config before the cloud sees it (ray/autoscaler/_private/aws/node_provider.py, gcp/node.py, 2.60)."""


def check(document: Document, provider: str) -> Iterator[Result]:
    """Each node type's `node_config` against RunInstances of EC2, Instance of Compute Engine, or Ray's own template for Azure."""
    package = PACKAGES.get(provider)
    if package is not None and find_spec(package) is None:
        yield Unchecked(f"node_config of {provider}: needs {package}; pip install 'psf-search[cluster]'")
        return
    for name in document.mapping("available_node_types"):
        path = ("available_node_types", name, "node_config")
        values = document.get(*path, default={})
        if not isinstance(values, dict):
            continue  # the schema has told
        if provider == "aws":
            yield from _aws(document, path, values, _run_instances())
        elif provider == "gcp":
            yield from _gcp(document, path, values, {"$ref": "Instance"}, _compute_engine())
        elif provider == "azure":
            yield from _azure(document, path, values)


@cache
def _run_instances() -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("ec2", "service-2")).operation_model("RunInstances").input_shape


def _aws(document: Document, path: Keys, value: Any, shape: Any) -> Iterator[Finding]:
    line = document.line(*path)
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            yield Finding(line, f"{dotted(path)}: expected a mapping, but got {value!r}")
            return
        own = RAYS_OWN["aws"] if shape.name == "RunInstancesRequest" else ()
        yield from unknown(document, path, [*shape.members, *own])
        for key, below in value.items():
            if key in shape.members:
                yield from _aws(document, (*path, key), below, shape.members[key])
    elif shape.type_name == "list":
        if not isinstance(value, list):
            yield Finding(line, f"{dotted(path)}: expected a list, but got {value!r}")
            return
        for index, below in enumerate(value):
            yield from _aws(document, (*path, index), below, shape.member)
    elif shape.type_name in ("integer", "long") and (not isinstance(value, int) or isinstance(value, bool)):
        yield Finding(line, f"{dotted(path)}: expected an integer, but got {value!r}")
    elif shape.type_name == "boolean" and not isinstance(value, bool):
        yield Finding(line, f"{dotted(path)}: expected true or false, but got {value!r}")
    elif shape.type_name == "string":
        if not isinstance(value, str):
            yield Finding(line, f"{dotted(path)}: expected a string, but got {value!r}; quote it")
        elif shape.enum and value not in shape.enum:
            yield Finding(line, f"{dotted(path)}: unknown value {value!r}; {nearest(value, list(shape.enum))}")


@cache
def _compute_engine() -> Mapping[str, Any]:
    from googleapiclient.discovery_cache import get_static_doc

    schemas: Mapping[str, Any] = json.loads(get_static_doc("compute", "v1"))["schemas"]
    return schemas


def _gcp(
    document: Document, path: Keys, value: Any, of: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Iterator[Finding]:
    line = document.line(*path)
    own = RAYS_OWN["gcp"] if of.get("$ref") == "Instance" else ()
    of = schemas[of["$ref"]] if "$ref" in of else of
    expected: dict[Any, Any] = {
        "object": dict,
        "array": list,
        "string": (str, int),
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    kind = of.get("type")
    if kind in expected and not isinstance(value, expected[kind]):
        yield Finding(line, f"{dotted(path)}: expected {kind}, but got {value!r}")
    elif isinstance(value, dict) and "properties" in of:
        yield from unknown(document, path, [*of["properties"], *own])
        for key, below in value.items():
            if key in of["properties"]:
                yield from _gcp(document, (*path, key), below, of["properties"][key], schemas)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _gcp(document, (*path, index), below, of["items"], schemas)
    elif "enum" in of and value not in of["enum"]:
        yield Finding(line, f"{dotted(path)}: unknown value {value!r}; {nearest(str(value), of['enum'])}")


SETS_ITSELF = ("vmName", "vmTags", "vmCount", "provisionPublicIp", "msi", "nsg", "subnet", "zones")
"""Parameters of Ray's template that Ray sets."""


def _azure(document: Document, path: Keys, values: Mapping[str, Any]) -> Iterator[Finding]:
    template = files("ray.autoscaler").joinpath("_private/_azure/azure-vm-template.json")
    parameters = json.loads(template.read_text())["parameters"]
    yield from unknown(document, path, ["azure_arm_parameters", "tags"])
    arm = (*path, "azure_arm_parameters")
    if not isinstance(values.get("azure_arm_parameters"), dict):
        yield Finding(document.line(*path), f"{dotted(arm)}: missing")
        return
    yield from unknown(document, arm, [*(name for name in parameters if name not in SETS_ITSELF), "availability_zone"])
    expected = {"string": str, "int": int, "bool": bool, "object": dict}
    for name, value in values["azure_arm_parameters"].items():
        kind = parameters.get(name, {}).get("type")
        if kind in expected and not isinstance(value, expected[kind]):
            yield Finding(document.line(*arm, name), f"{dotted((*arm, name))}: expected {kind}, but got {value!r}")
