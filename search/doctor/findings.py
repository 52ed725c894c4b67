"""What is wrong with the machines of a search, and what to do: from what they say, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from search.doctor.facts import RAYS, SHM, Facts, Gpus, Place
from search.doctor.finding import Finding, Found, error, warning
from search.doctor.networks import of_networks
from search.doctor.node import Node
from search.machine import GIB, MIB, VISIBLE
from search.plan import WORKER_MEMORY

SKEW = 1.0
"""Seconds by which clocks may differ: files' times and logs of several nodes are read side by side."""
LITTLE_SPACE, LITTLE_SHM = 2 * GIB, GIB
"""Free bytes of a disk, and the size of /dev/shm. A container has 64 MiB of it unless asked for more; Ray then keeps objects on a disk."""
RAY_FULL = 0.95
"""Share of a disk from which on Ray writes no more (`RAY_local_fs_capacity_threshold`)."""
SAME = ("ray", "torch", "psf-search")
"""Packages that must be the driver's to the patch, whatever they are built for; of others it is as a rule no harm."""


def judge(
    driver: Facts, nodes: Sequence[Node], *, expected: int | None = None, lost: Sequence[str] = ()
) -> list[Finding]:
    """What is wrong, errors first.

    Args:
        driver: facts of the machine and the process that the search is to be started from.
        nodes: of the cluster; empty if there is none, and only the driver's machine counts.
        expected: how many nodes there should be, if known.
        lost: what is known of nodes that have left.
    """
    if nodes:
        found = _named("the cluster", _of_the_cluster(nodes, expected, lost)) + _named("the driver", _of_places(driver))
    else:
        alone = (_of_packages(driver), _of_a_machine(driver, {}), _of_places(driver))
        found = [one for some in alone for one in _named(driver.host, some)]
    for node in nodes:
        found += _named(node.name, _of_a_node(driver, node, several=len(nodes) > 1))
    return sorted(found, key=lambda one: one.level)


def _named(name: str, found: Found) -> list[Finding]:
    return [Finding(level, name, message) for level, message in found]


def _of_the_cluster(nodes: Sequence[Node], expected: int | None, lost: Sequence[str]) -> Found:
    if expected is not None and len(nodes) < expected:
        left = f"; lost: {'; '.join(lost)}" if lost else ""
        yield error(
            f"{len(nodes)} of {expected} nodes are there{left}; on a missing one run psf-search doctor, then `ray start --address`, "
            "which says why it does not join"
        )
    if not any(node.resources.get("CPU") for node in nodes):
        yield error("no node has a CPU for training: `ray start --num-cpus`, or wait for workers (--nodes, --wait)")


def _of_a_node(driver: Facts, node: Node, several: bool) -> Found:
    facts = node.facts
    if facts is None:
        yield error(
            f"{node.silence}; log in: `ray stop` and `ray start --address` there, logs are in {node.session}/logs"
        )
        return
    yield from _of_software(driver, facts)
    yield from _of_a_machine(facts, node.resources)
    for option, place in facts.places.items():
        if not driver.places[option].there or driver.places[option].error is not None:
            continue  # which is said of the driver
        yield from _of_a_shared_place(facts, option, place, node.seen[option])
    if node.clock is not None and abs(node.clock.ahead) - node.clock.error > SKEW:
        ahead = "ahead of" if node.clock.ahead > 0 else "behind"
        yield warning(
            f"its clock is {abs(node.clock.ahead):.1f} s {ahead} the driver's: let NTP set it (chrony, systemd-timesyncd)"
        )
    if several:
        yield from of_networks(node.address, facts)


def _of_packages(facts: Facts) -> Found:
    if missing := sorted(one for one, version in facts.packages.items() if version is None):
        yield error(f"not installed in {facts.executable}: {', '.join(missing)}; `make setup` in the checkout")


def _of_software(driver: Facts, facts: Facts) -> Found:
    if facts.source is None:
        yield error(
            f"psf-search is not installed in {facts.executable}: the same checkout, `make setup`, and `ray start` of its .venv"
        )
        return
    if facts.python != driver.python:
        yield error(
            f"has Python {facts.python}, the driver {driver.python}: make both from the same checkout (`make setup`)"
        )
    for level, packages in ((error, SAME), (warning, driver.packages.keys() - set(SAME))):
        other = [
            f"{one} {facts.packages.get(one) or 'missing'} (the driver has {driver.packages[one] or 'none'})"
            for one in sorted(packages)
            if _public(facts.packages.get(one)) != _public(driver.packages.get(one))
        ]
        if other:
            yield level(f"other versions: {', '.join(other)}; `make setup` there, from the driver's checkout")
    if facts.source != driver.source and facts.packages.get("psf-search") == driver.packages.get("psf-search"):
        yield error(
            f"has another source of psf-search ({facts.source}, the driver {driver.source}): bring its checkout up to date, and start Ray again"
        )


def _public(version: str | None) -> str | None:
    """Without what it is built for, such as the `+cpu` of a driver whose nodes have GPUs."""
    return None if version is None else version.partition("+")[0]


def _of_a_machine(facts: Facts, resources: Mapping[str, float]) -> Found:
    """`resources`: what Ray has of it; empty without Ray."""
    machine, cpus, gpus = facts.machine, resources.get("CPU", 0), resources.get("GPU", 0)
    if cpus > machine.cpus:
        yield warning(
            f"Ray has {cpus:g} CPUs, {machine.cpus} may be used{machine.because('cpus')}: `ray start --num-cpus={machine.cpus}`"
        )
    lanes = min(int(cpus), machine.cpus) if resources else machine.cpus
    if machine.memory is not None and lanes * WORKER_MEMORY > machine.memory:
        fit = int(machine.memory / WORKER_MEMORY)
        yield warning(
            f"a lane on each of {lanes} CPUs takes {lanes * WORKER_MEMORY / GIB:.1f} GiB, {machine.memory / GIB:.1f} GiB are free"
            f"{machine.because('memory')}: room for {fit}; free memory, or give Ray fewer CPUs"
        )
    if gpus > machine.gpus:
        yield error(
            f"Ray has {gpus:g} GPUs, {machine.gpus} may be used{machine.because('gpus')}: `ray start --num-gpus={machine.gpus}`"
        )
    elif resources and machine.gpus > gpus:
        yield warning(
            f"Ray has {gpus:g} of {machine.gpus} GPUs: `ray start --num-gpus={machine.gpus}`, if they are for the search"
        )
    if facts.gpus is not None:
        yield from _of_gpus(facts, facts.gpus, wanted=bool(gpus if resources else machine.gpus))
    yield from _of_disks(facts)


def _of_disks(facts: Facts) -> Found:
    labels: dict[int, list[str]] = {}
    for label, disk in facts.disks.items():
        labels.setdefault(disk.device, []).append(label)
        if label == SHM and disk.total < LITTLE_SHM:
            yield warning(
                f"{SHM} has {disk.total / MIB:.0f} MiB, so Ray keeps objects on a disk: `docker run --shm-size=2g`, or an emptyDir of medium Memory"
            )
    for shares in labels.values():
        disk, of_ray = facts.disks[shares[0]], RAYS in shares
        full = of_ray and disk.free < (1 - RAY_FULL) * disk.total
        if disk.total and shares != [SHM] and (disk.free < LITTLE_SPACE or full):
            free = f"{disk.free / GIB:.1f} GiB free, {100 * disk.free / disk.total:.0f} %"
            what = (
                "Ray writes no more with less than 5 % free: delete old session_* there, or set RAY_TMPDIR"
                if full
                else "free some"
            )
            yield warning(f"the disk of {', '.join(shares)} has {free}: {what}")


def _of_gpus(facts: Facts, gpus: Gpus, wanted: bool) -> Found:
    """`wanted`: whether there are any that a search may use; else only their tools are there, or it does without them."""
    wrong = error if wanted else warning
    if gpus.error is not None:
        yield wrong(f"{gpus.error}; run nvidia-smi there, and {facts.executable} -c 'import torch; torch.cuda.init()'")
    elif gpus.cuda is None:
        version = facts.packages.get("torch")
        yield wrong(f"torch {version} is built without CUDA, and there is a GPU: install torch's build for it")
    elif not gpus.shown and facts.machine.gpus:
        named = len(gpus.names)
        yield wrong(
            f"torch (CUDA {gpus.cuda}) sees no GPU, NVIDIA's driver {named}: is the driver older than that CUDA?"
        )
    for number, why in enumerate(gpus.shown):
        if why:
            yield wrong(f"GPU {number} does not work: {why}; nvidia-smi says who uses it, {VISIBLE} leaves it out")


def _of_places(facts: Facts) -> Found:
    """What the driver's machine finds of its own directories."""
    for option, place in facts.places.items():
        if not place.there:
            yield error(f"{option} {place.directory}: is no directory; name another")
        elif place.error is not None:
            yield error(
                f"{option} {place.directory}: cannot be written to: {place.error}; see its owner and mode, or name another"
            )
        else:
            yield from _of_a_lock(option, place)


def _of_a_shared_place(facts: Facts, option: str, place: Place, seen: bool) -> Found:
    where = f"{option} {place.directory}"
    if not place.there:
        yield error(f"{where}: is not there; mount the driver's storage under this name, before `ray start`")
    elif not place.common or (place.error is None and not seen):
        yield error(f"{where}: is not the driver's; mount the same storage under this name on both, before `ray start`")
    elif place.error is not None:
        yield error(
            f"{where}: cannot be written to as user {facts.user}: {place.error}; give that user the directory, or start Ray as another"
        )
    elif place.lock == "own":
        needed = error if option == "--cache" else warning
        yield needed(
            f"{where}: locks hold on one node only; mount it so that flock is common (Lustre: `flock`; NFS: without `local_lock`)"
        )
    else:
        yield from _of_a_lock(option, place)


def _of_a_lock(option: str, place: Place) -> Found:
    if place.lock not in ("own", "common"):
        yield error(f"{option} {place.directory}: files cannot be locked there: {place.lock}; use storage with flock")


def plain(driver: Facts, nodes: Sequence[Node], findings: Sequence[Finding]) -> dict[str, object]:
    """Everything that is known, for machines; memory and disks in bytes, clocks in seconds."""
    return {
        "driver": asdict(driver),
        "nodes": [asdict(one) for one in nodes],
        "findings": [asdict(one) for one in findings],
    }
