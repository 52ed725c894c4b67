"""The table of `psf-search doctor`: a row for each machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD

from results.narrow_table import ContinuedTable
from search.doctor.facts import Disk, Facts, Place
from search.doctor.networks import taken
from search.doctor.node import Node
from search.machine import GIB, VISIBLE

MISSING, NETWORKS = "-", "interfaces"


def table(driver: Facts, nodes: Sequence[Node]) -> ContinuedTable:
    """Of the cluster's nodes, or without any of the driver's machine."""
    made = ContinuedTable(box=SIMPLE_HEAD, pad_edge=False, caption_justify="left", caption_style="")
    rows = [_of_a_node(one) for one in nodes] or [{"machine": driver.host} | _of_facts(driver, {})]
    for name in dict.fromkeys(name for row in rows for name in row):
        made.add_column(name, no_wrap=name != NETWORKS)
    for row in rows:
        made.add_row(*(row.get(str(column.header), MISSING) for column in made.columns))
    return made


def _of_a_node(node: Node) -> dict[str, str]:
    row = {"node": node.address, "host": node.host}
    if node.facts is None:
        return row | {"Python": "no answer"}
    row |= _of_facts(node.facts, node.resources)
    row |= {"clock ahead\nby, s": str(node.clock or MISSING)}
    row |= {f"{library}\ntakes": name or MISSING for library, name in taken(node.facts, node.address).items()}
    return row


def _of_facts(facts: Facts, resources: Mapping[str, float]) -> dict[str, str]:
    machine, with_ray = facts.machine, bool(resources)
    version, source = facts.packages.get("psf-search"), facts.source
    row = {"Python": facts.python}
    row |= {name: facts.packages.get(name) or MISSING for name in ("ray", "torch")}
    row["psf-search\nand source"] = MISSING if source is None else f"{version or MISSING} {source}"
    free = MISSING if machine.memory is None else f"{machine.memory / GIB:.1f}"
    usable = MISSING if facts.gpus is None else f"{sum(not wrong for wrong in facts.gpus.shown)}"
    row |= {
        _titled("CPUs", "of Ray, there", with_ray): _both(resources.get("CPU", 0), str(machine.cpus), with_ray),
        _titled("memory, GiB", "of Ray, free", with_ray): _both(resources.get("memory", 0) / GIB, free, with_ray),
        _titled("GPUs", "of Ray, there, usable", with_ray): _both(
            resources.get("GPU", 0), f"{machine.gpus}, {usable}", with_ray
        ),
        "CUDA_VISIBLE\n_DEVICES": facts.environment.get(VISIBLE, "not set"),
    }
    row |= {f"{name}\nGiB free": _space(disk) for name, disk in facts.disks.items()}
    row |= {
        f"{option}\nGiB free": _place(facts.disks.get(option), place, with_ray)
        for option, place in facts.places.items()
    }
    row[NETWORKS] = ", ".join(f"{name} {address}" for name, address in facts.interfaces.items()) or MISSING
    return row


def _titled(what: str, whose: str, with_ray: bool) -> str:
    return f"{what}\n{whose if with_ray else whose.partition(', ')[2]}"


def _both(of_ray: float, there: str, with_ray: bool) -> str:
    return f"{round(of_ray, 1):g}, {there}" if with_ray else there


def _space(disk: Disk | None) -> str:
    return MISSING if disk is None else f"{disk.free / GIB:.1f}"


def _place(disk: Disk | None, place: Place, with_ray: bool) -> str:
    if not place.there:
        return "not there"
    states = {True: "shared", False: "another", None: ""}
    said = "not writable" if place.error is not None else states[place.common] if with_ray else ""
    return ", ".join(one for one in (_space(disk), said) if one)
