"""SkyPilot's task files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from search.clusters import planned, shell
from search.clusters.launch_file import Command, Document, Finding, LaunchFile, Node, Result
from search.clusters.schema import check as check_schema
from search.clusters.schema import each

OPEN = {"type": ["object", "null"]}
TEXT, NUMBER = {"type": ["string", "null"]}, {"type": ["string", "number", "null"]}
RESOURCES: dict[str, Any] = {
    **each(("cloud", "region", "zone", "infra", "instance_type", "disk_tier", "network_tier", "local_disk"), TEXT),
    **each(("cpus", "memory", "disk_size", "max_hourly_cost", "priority"), NUMBER),
    **each(("labels", "accelerator_args", "ephemeral_storage"), OPEN),
    **each(("job_recovery", "volumes", "ports", "image_id", "autostop", "accelerators", "priority_class"), {}),
    "use_spot": {"type": ["boolean", "null"]},
}
TASK: dict[str, Any] = {
    # From SkyPilot's YAML reference, and the same as the schema of skypilot 0.14, which is too heavy to be installed for it.
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **each(("name", "setup", "run", "event_callback"), TEXT),
        **each(("file_mounts", "envs", "secrets", "inputs", "outputs", "config", "volumes", "volume_mounts"), OPEN),
        **each(("workdir", "service", "pool", "file_mounts_mapping", "managed_secrets", "api_server_access"), {}),
        "num_nodes": {"type": "integer", "minimum": 1},
        "resources": {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {**RESOURCES, **each(("any_of", "ordered"), {"type": "array"})},
        },
    },
}


def is_one(document: Document) -> bool:
    return bool({"run", "num_nodes"} & document.tree.keys()) and not {"kind", "provider"} & document.tree.keys()


def check(file: LaunchFile) -> Iterator[Result]:
    """What is wrong with a task file."""
    for document in file.documents:
        yield from check_schema(document, TASK)
        commands = [document.command(key) for key in ("setup", "run") if isinstance(document.get(key), str)]
        yield from shell.check(commands)
        yield from shell.stops(commands, "SkyPilot's own Ray: the task's end takes the machines away anyway")
        yield from _start(document, commands)
        variables = {str(name): str(value) for name, value in document.mapping("envs").items()}
        count = int(document.number("num_nodes", default=1) or 1)
        nodes = [Node("nodes", count, document.number("resources", "cpus"), _gpus(document))]
        yield from planned.check(commands, nodes, _shared(document, commands), variables, again=_again(document))


def _start(document: Document, commands: list[Command]) -> Iterator[Finding]:
    text = "\n".join(command.text for command in commands)
    for command in commands:
        for found in re.finditer(r"--address[= ]['\"]?auto\b", command.text):
            yield Finding(
                command.line_of(found.start()), "--address auto: finds SkyPilot's own Ray; give the head's HOST:PORT"
            )
        for found in re.finditer(r"\bray start\b[^\n]*--port[= ](6380|8266)\b", command.text):
            yield Finding(command.line_of(found.start()), f"port {found[1]} is that of SkyPilot's own Ray")
    if re.search(r"\bray start\b", text):
        line = document.line("run")
        if "RAY_AUTH_MODE=token" not in text:
            yield Finding(line, "run: no token is asked for: export RAY_AUTH_MODE=token")
        token = any(str(there).endswith("auth_token") for there in document.mapping("file_mounts"))
        if token and not re.search(r"chmod\s+0?600\s[^;&|]*auth_token", text):
            yield Finding(
                document.line("file_mounts"),
                "file_mounts: the token keeps its mode, 0644 as Ray makes it: chmod 600 in setup",
            )


def _again(document: Document) -> str | None:
    spot, recovery = document.get("resources", "use_spot"), document.get("resources", "job_recovery")
    return "a managed job on spot machines" if spot or recovery else None


def _shared(document: Document, commands: list[Command]) -> list[str]:
    return sorted(shell.mounted(commands) | {str(place) for place in document.mapping("volumes")})


def _gpus(document: Document) -> float | None:
    """Of one node: `L4`, `L4:2` or {L4: 2}; None if there are several to choose from."""
    if document.items("resources", "any_of") or document.items("resources", "ordered"):
        return None
    for count in document.mapping("resources", "accelerators").values():
        return float(count) if isinstance(count, int | float) else 1
    asked = document.get("resources", "accelerators")
    found = re.fullmatch(r"[\w-]+(?::(\d+))?", asked) if isinstance(asked, str) else None
    return float(found[1] or 1) if found else 0
