"""What a lane takes of a Ray cluster, and whether there is a place for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ray
from ray.util.placement_group import placement_group, remove_placement_group

# How long Ray may take to say that there is a place; whole seconds, Ray drops the rest.
PROBE = 3
# What a worker asks for may be a fraction, which a float misses.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Room:
    """Room for lanes.

    Args:
        each: resources of one worker, by kind.
        workers: per lane.
        spare_cpus: CPUs of the cluster that are not for lanes.
    """

    each: Mapping[str, float]
    workers: int
    spare_cpus: float

    def free(self) -> int:
        """How many lanes could have what nobody has, were it in one piece.

        To be asked before `holds`: a request that must wait would make an autoscaler add nodes.
        """
        free = ray.available_resources()
        return min(int((free.get(kind, 0) + ROUNDING) / (self.workers * amount)) for kind, amount in self.each.items())

    def holds(self, lanes: int, new: int) -> bool:
        """Whether the nodes hold so many lanes beside the spare CPUs, and the last `new` of them now."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if places(nodes, self.each, self.workers, self.spare_cpus) < lanes:
            return False
        # What is free may lie in pieces on several nodes: Ray itself says whether it serves.
        group = placement_group([dict(self.each)] * self.workers * new)
        try:
            return bool(group.wait(PROBE))
        finally:
            remove_placement_group(group)

    def shortage(self) -> str:
        """What a lane asks for, and what the cluster has."""
        free = ray.available_resources()
        there = _text({kind: free.get(kind, 0) for kind in self.each})
        return f"asks for {self.workers} x {_text(self.each)}, the cluster has free {there}"


def places(nodes: Iterable[Mapping[str, float]], each: Mapping[str, float], workers: int, spare_cpus: float) -> int:
    """How many lanes of so many workers nodes hold in all, each worker on one node, beside the spare CPUs."""
    nodes = list(nodes)
    fit = sum(int(min((node.get(kind, 0) + ROUNDING) / amount for kind, amount in each.items())) for node in nodes)
    cpus = sum(node.get("CPU", 0) for node in nodes) - spare_cpus
    return min(fit // workers, int((cpus + ROUNDING) / (workers * each["CPU"])))


def _text(amounts: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{kind}: {amount:g}" for kind, amount in amounts.items()) + "}"
