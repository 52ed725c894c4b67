"""The nodes of a Ray cluster, and what each says of itself: a task for each, pinned to it, that takes no CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search import machine
from search.doctor import facts
from search.doctor.facts import Facts
from search.doctor.node import Clock, Node
from search.doctor.storage import Storage, disks

LIMIT = 180.0
"""Seconds in which a node must have answered: more than `facts.GPU_PATIENCE` twice, and what a worker takes to start."""
CLOCK_LIMIT, CLOCK_TRIES = 10.0, 5
_no_cpu = ray.remote(num_cpus=0, max_retries=0)
GATHER, LEAVE = _no_cpu(facts.gather), _no_cpu(facts.leave)


def wait_for_nodes(number: int | None, seconds: float, said: Callable[[str], None]) -> tuple[list[Node], list[str]]:
    """The cluster's nodes, once there are so many or the time is up; and what is known of those that it has lost.

    Args:
        said: told of each that joins.
    """
    ends, known = time.monotonic() + seconds, set[str]()
    while True:
        everything = ray.nodes()
        nodes = [_node(one) for one in everything if one["Alive"]]
        enough = number is None or len(nodes) >= number
        for one in nodes if known else ():
            if one.id not in known:
                said(f"{one.name} has joined: {len(nodes)} of {number} nodes")
        if not known and not enough and seconds > 0:
            said(f"{len(nodes)} of {number} nodes are there; waiting up to {seconds:g} s for the others")
        known |= {one.id for one in nodes}
        if enough or time.monotonic() > ends:
            lost = [
                f"{_node(one).name}: {' '.join(one['DeathReasonMessage'].split())}"
                for one in everything
                if not one["Alive"]
            ]
            return nodes, lost
        time.sleep(min(1.0, seconds))


def _node(one: Mapping[str, Any]) -> Node:
    session = str(Path(one["RayletSocketName"]).parent.parent)
    return Node(one["NodeID"], one["NodeManagerAddress"], one["NodeManagerHostname"], one["Resources"], session)


def ask(nodes: Sequence[Node], packages: Sequence[str], storage: Storage, limit: float = LIMIT) -> list[Node]:
    """The same nodes with what they say, all asked at once.

    Args:
        packages: distributions whose versions are asked for.
        limit: seconds after which one without an answer is given up.
    """
    with as_code():
        asked = {
            node.id: _on(node, GATHER).remote(packages, disks(node.session, storage), storage.meetings(node.id))
            for node in nodes
        }
        ready, hung = ray.wait(list(asked.values()), num_returns=len(asked), timeout=limit)
        answered = set(ready)
        for reference in hung:
            ray.cancel(reference, force=True)
        nodes = [
            _answered(node, asked[node.id], storage)
            if asked[node.id] in answered
            else replace(node, silence=f"no answer in {limit:g} s")
            for node in nodes
        ]
        return [node if node.facts is None else _part(node, storage) for node in nodes]


@contextmanager
def as_code() -> Iterator[None]:
    """What is sent from here is there on any node, whatever is installed on it."""
    modules = (facts, machine)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _on(node: Node, function: Any) -> Any:
    return function.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))


def _answered(node: Node, reference: Any, storage: Storage) -> Node:
    try:
        found = Facts.read(ray.get(reference))
    except RayError as error:
        said = [line for line in str(error).splitlines() if line.strip()]
        return replace(node, silence=(said[-1].strip() if said else type(error).__name__))
    return replace(node, facts=found, seen=storage.seen(node.id))


def _part(node: Node, storage: Storage) -> Node:
    """Take leave of a node, and read its clock by the shortest of some round trips."""
    best: Clock | None = None
    for trip in range(1 + CLOCK_TRIES):
        files = [] if trip else [str(file) for file in storage.files(node.id)]
        began, started = time.time(), time.monotonic()
        reference = _on(node, LEAVE).remote(files)
        if not ray.wait([reference], timeout=CLOCK_LIMIT)[0]:
            break
        try:
            there = ray.get(reference)
        except RayError:
            break
        taken = time.monotonic() - started
        clock = Clock(there - began - taken / 2, taken / 2)
        best = clock if best is None or clock.error < best.error else best
    return replace(node, clock=best)
