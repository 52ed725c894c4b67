"""Files of `ray up`: machines by ssh, AWS, Google Cloud, Azure."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import stat
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path, PurePosixPath

from search.clusters import node_config, planned, shell
from search.clusters.launch_file import Command, Document, Finding, LaunchFile, Node, Result
from search.clusters.schema import check as check_schema
from search.clusters.schema import each, unknown
from spaces.errors import nearest

# What each of Ray's providers reads below `provider` (ray/autoscaler/_private/*/{config,node_provider}.py, 2.60).
EVERY = ("type", "use_internal_ips", "disable_node_updaters", "cache_stopped_nodes")
PROVIDERS = {
    "local": ("type", "head_ip", "worker_ips", "external_head_ip", "coordinator_address"),
    "aws": (*EVERY, "region", "availability_zone", "key_pair", "security_group", "cloudwatch", "aws_credentials"),
    "gcp": (*EVERY, "region", "availability_zone", "project_id", "gcp_credentials"),
    "azure": (
        *EVERY, "location", "resource_group", "subscription_id", "availability_zone", "unique_id", "subnet_mask", "tags",
        "msi_name", "msi_resource_group", "use_external_head_ip",
    ),
}  # fmt: skip
NEEDED = {
    "local": ("head_ip", "worker_ips"),
    "aws": ("region",),
    "gcp": ("region", "availability_zone", "project_id"),
    "azure": ("location", "resource_group"),
}
COMMANDS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands", "head_start_ray_commands",
    "worker_start_ray_commands",
)  # fmt: skip
ON_EVERY_NODE = ("initialization_commands", "setup_commands")
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")
OLDER = ("min_workers", "head_node", "worker_nodes")
"""Keys that Ray takes out before it looks at the rest."""


def is_one(document: Document) -> bool:
    return isinstance(document.tree.get("provider"), dict)


def check(file: LaunchFile) -> Iterator[Result]:
    """What is wrong with a file of `ray up`."""
    document, *others = file.documents
    yield from (Finding(other.line(), "a second document, which Ray does not read") for other in others)
    schema = json.loads(files("ray.autoscaler").joinpath("ray-schema.json").read_text())
    schema["properties"] |= each(OLDER, {})
    found = list(check_schema(document, schema))
    yield from found
    kind = str(document.get("provider", "type"))
    if kind not in PROVIDERS:
        yield Finding(
            document.line("provider", "type"),
            f"provider.type: {kind!r} is not known here; {nearest(kind, list(PROVIDERS))}",
        )
        return
    yield from unknown(document, ("provider",), list(PROVIDERS[kind]))
    missing = [key for key in NEEDED[kind] if document.get("provider", key) is None]
    yield from (Finding(document.line("provider"), f"provider.{key}: missing") for key in missing)
    if not found and not missing:
        yield from _prepared(document)
    yield from node_config.check(document, kind)
    commands = {key: document.commands(key) for key in COMMANDS}
    for name in document.mapping("available_node_types"):
        for key in ("initialization_commands", "worker_setup_commands"):
            commands[key] += document.commands("available_node_types", name, key)
    everything = [command for of_key in commands.values() for command in of_key]
    yield from shell.check(everything)
    yield from shell.threads(everything)
    yield from _token(document, commands)
    yield from _path(document, everything)
    yield from _copies(document)
    yield from _local(document, commands) if kind == "local" else _cloud(document, commands)
    yield from planned.check(everything, _nodes(document, kind), _shared(commands))


def _prepared(document: Document) -> Iterator[Finding]:
    """What Ray itself says, once its defaults are filled in."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    said, before = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)  # Ray says which defaults it takes
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            validate_config(prepare_config(document.tree))
    except (Exception, SystemExit) as error:  # whichever of them it is: jsonschema's, ValueError, click's
        words = (str(error) or said.getvalue() or type(error).__name__).strip()
        yield Finding(document.line("provider"), f"Ray: {words.splitlines()[0]}")
    finally:
        logging.disable(before)


def _token(document: Document, commands: dict[str, list[Command]]) -> Iterator[Finding]:
    for key in STARTS:
        starts = [command for command in commands[key] if re.search(r"\bray start\b", command.text)]
        if not starts:
            yield Finding(
                document.line(key),
                f"{key}: no `ray start`; Ray's own commands ask for no token, and open a cloud's dashboard to the network",
            )
        for command in starts:
            if "RAY_AUTH_MODE=token" not in command.text:
                yield Finding(
                    _start(command),
                    f"{key}: no token is asked for: put `export RAY_AUTH_MODE=token;` before `ray start`",
                )
    mounts = document.mapping("file_mounts")
    tokens = {str(there): str(here) for there, here in mounts.items() if PurePosixPath(str(there)).name == "auth_token"}
    if not tokens:
        yield Finding(
            document.line("file_mounts"),
            "file_mounts: the token is not copied: ~/.ray/auth_token: ~/.ray/auth_token (`ray get-auth-token --generate` makes it)",
        )
        return
    texts = [command.text for key in (*ON_EVERY_NODE, *STARTS) for command in commands[key]]
    for there, here in tokens.items():
        line = document.line("file_mounts", there)
        if not any(re.search(r"chmod\s+(0?600|go=|go-rwx)\s[^;&|]*auth_token", text) for text in texts):
            yield Finding(
                line,
                f"file_mounts: {there} keeps its mode, 0644 as Ray makes it: - chmod 600 {there} in setup_commands",
            )
        token = Path(here).expanduser()
        if token.is_file() and stat.S_IMODE(token.stat().st_mode) & 0o077:
            yield Finding(line, f"file_mounts: {here} can be read by others on this machine: chmod 600 {here}")


def _start(command: Command) -> int:
    """The line of a command's `ray start`."""
    return command.line_of(command.text.index("ray start"))


def _path(document: Document, commands: list[Command]) -> Iterator[Finding]:
    """`ray down`, `ray exec` and `ray attach` call a bare `ray` in a login shell."""
    reached = any(re.search(r"PATH=.*(bashrc|profile)|/usr/local/bin", command.text, re.DOTALL) for command in commands)
    if not reached and not document.get("docker"):
        yield Finding(
            document.line("setup_commands"),
            "setup_commands: none puts `ray` on the login shell's PATH, where `ray down` looks for a bare `ray stop`",
        )


CHANGING = (".venv", "results/runs", "results/cache")


def _copies(document: Document) -> Iterator[Finding]:
    """`ray up` makes a hash of all that file_mounts name (hash_runtime_conf in ray/autoscaler/_private/util.py, 2.60)."""
    for there, here in document.mapping("file_mounts").items():
        for part in CHANGING:
            if Path(str(here)).expanduser().joinpath(part).exists():
                yield Finding(
                    document.line("file_mounts", there),
                    f"file_mounts: {here} has {part}: Ray reads every byte of it, excluded or not, and starts anew if any has changed; name a "
                    "fresh clone",
                )


def _local(document: Document, commands: dict[str, list[Command]]) -> Iterator[Finding]:
    if not document.get("auth", "ssh_user"):
        yield Finding(document.line("auth"), "auth.ssh_user: missing")
    machines = [document.get("provider", "head_ip"), *document.items("provider", "worker_ips")]
    for address, times in Counter(map(str, machines)).items():
        if times > 1:  # Ray's provider would fail at an assertion
            yield Finding(
                document.line("provider", "worker_ips"),
                f"provider: {address} stands {times} times in head_ip and worker_ips; name each machine once",
            )
    for command in commands["head_start_ray_commands"]:
        if re.search(r"\bray start\b", command.text) and "RAY_enable_autoscaler_v2=0" not in command.text:
            yield Finding(
                _start(command),
                "head_start_ray_commands: autoscaler v2, the default, never starts workers of this provider (ray #57153): put "
                "`export RAY_enable_autoscaler_v2=0;` before `ray start`",
            )


def _cloud(document: Document, commands: dict[str, list[Command]]) -> Iterator[Finding]:
    head = document.get("head_node_type")
    for name in document.mapping("available_node_types"):
        path = ("available_node_types", name)
        least = document.get(*path, "min_workers", default=0)
        most = document.get(*path, "max_workers", default=document.get("max_workers", default=2))
        if name != head and least != most:
            yield Finding(
                document.line(*path, "min_workers"),
                f"available_node_types.{name}: min_workers={least}, max_workers={most}: a search asks only for what is there, so Ray never "
                "adds workers; set both alike",
            )
    if document.get("available_node_types", head, "resources", "CPU") == 0:
        for command in commands["head_start_ray_commands"]:
            if re.search(r"\bray start\b", command.text) and "--num-cpus=0" not in command.text:
                yield Finding(
                    _start(command),
                    "head_start_ray_commands: the head has CPU: 0, but `ray start` counts its CPUs: add --num-cpus=0",
                )


def _nodes(document: Document, kind: str) -> list[Node]:
    if kind == "local":
        return []
    found = []
    for name in document.mapping("available_node_types"):
        of_type = ("available_node_types", name)
        count = 1 if name == document.get("head_node_type") else document.number(*of_type, "min_workers", default=0)
        gpus = document.number(*of_type, "resources", "GPU", default=0)
        found.append(Node(name, int(count or 0), document.number(*of_type, "resources", "CPU"), gpus))
    return found


def _shared(commands: dict[str, list[Command]]) -> list[str]:
    """What is mounted on every node."""
    return sorted(shell.mounted(command for key in ON_EVERY_NODE for command in commands[key]))
