"""`psf-search doctor`: whether machines are fit for a search, before it is started."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from results.run_directory import ROOT
from search.address import check_reachable, join
from search.api import CACHE
from search.doctor.facts import Facts, gather, leave
from search.doctor.finding import Finding
from search.doctor.findings import judge, plain
from search.doctor.node import Node
from search.doctor.storage import ALONE, Storage, disks
from search.doctor.table import table
from search.options import DIRECTORY, RunsRoot
from search.storage.place import Place
from spaces.errors import SpaceError

WIDEST = 100
"""Columns of the table."""
NO_NODE_HERE = {"RAY_gcs_server_request_timeout_seconds": "15"}
"""How long Ray looks for a node of the cluster on the driver's machine; its default: 60 s."""


def doctor(
    address: Annotated[str | None, typer.Option(help="Ray cluster to look at; default: this machine alone.")] = None,
    out: RunsRoot = str(ROOT),
    cache: Annotated[
        str, typer.Option(metavar=DIRECTORY, help="Prepared data; on a cluster, on shared storage.")
    ] = str(CACHE),
    nodes: Annotated[int | None, typer.Option(min=1, help="How many nodes the cluster should have.")] = None,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long nodes may still be coming.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Say what is wrong with this machine, or with each node of a Ray cluster, before a search is started; exit code 1 for an error.

    Asks each node for its versions, CPUs, memory, GPUs, disks, storage, clock and networks. Nothing stays behind.
    """
    if address is None and (nodes is not None or wait):
        raise SpaceError(f"{'--nodes' if nodes is not None else '--wait'}: goes with --address")
    if wait and nodes is None:
        raise SpaceError("--wait: goes with --nodes, which says what is waited for")
    progress = Console(stderr=as_json, markup=False, highlight=False)
    lost: list[str] = []
    found: list[Node] = []
    places = {"--out": Place.of_runs(out), "--cache": Place.of_data(cache)}
    for option, place in places.items():
        place.check(option)
    with Storage({option: place.path for option, place in places.items()}) as storage:
        driver = _here(storage)
        if address is not None:
            found, lost = _cluster(address, nodes, wait, storage, lambda line: progress.print(line, soft_wrap=True))
    findings = judge(driver, found, expected=nodes, lost=lost)
    if as_json:
        print(json.dumps(plain(driver, found, findings), indent=2))
    else:
        console = Console(markup=False, highlight=False)
        console.width = min(console.width, WIDEST) if sys.stdout.isatty() else WIDEST
        console.print(table(driver, found))
        for finding in findings:
            console.print(str(finding), soft_wrap=True)
        console.print(_summary(len(found), findings), soft_wrap=True)
    sys.exit(1 if any(one.level == "error" for one in findings) else 0)


def _here(storage: Storage) -> Facts:
    """Facts of this machine, with what the driver cannot do itself."""
    ray = str(Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray"))
    answer = gather(_packages(), disks(ray, storage), storage.alone())
    leave(str(file) for file in storage.files(ALONE))
    return Facts.read(answer)


def _packages() -> list[str]:
    """What psf-search needs, and itself."""
    names = [re.match(r"[\w.-]+", one) for one in requires("psf-search") or () if "extra ==" not in one]
    return ["psf-search", *(one[0] for one in names if one is not None)]


def _cluster(
    address: str, number: int | None, seconds: float, storage: Storage, said: Callable[[str], None]
) -> tuple[list[Node], list[str]]:
    """What the nodes of a cluster say, and what is known of those that it has lost."""
    check_reachable(address)
    os.environ.update(NO_NODE_HERE | {name: os.environ[name] for name in NO_NODE_HERE if name in os.environ})
    import ray  # which takes a second to load

    from search.doctor.cluster import ask, wait_for_nodes

    join(address)
    try:
        nodes, lost = wait_for_nodes(number, seconds, said)
        return ask(nodes, _packages(), storage), lost
    finally:
        ray.shutdown()


def _summary(nodes: int, findings: list[Finding]) -> str:
    machines = f"{nodes} node{'s' * (nodes != 1)}" if nodes else "this machine"
    counts = {level: sum(one.level == level for one in findings) for level in ("error", "warning")}
    said = [f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if count]
    return f"{machines}: {' and '.join(said) or 'nothing is wrong'}"
