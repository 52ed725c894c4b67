"""What this process may use of the machine, and what says so: an affinity, a cgroup of either version, Slurm, or CUDA_VISIBLE_DEVICES.

Ray and psutil count what the machine has. Ray heeds a cgroup's quota only where it is at the top, as in a container, and no Slurm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

GIB, MIB = 2**30, 2**20
ROOT = Path("/")
QUOTA, MEMORY, VISIBLE = "the cgroup's quota", "the cgroup's limit", "CUDA_VISIBLE_DEVICES"


class Allowed(NamedTuple):
    """How much, and what sets it; "" if that is all that there is."""

    amount: int
    by: str = ""


@dataclass(frozen=True)
class Machine:
    """`memory` in bytes: what is free; None where nobody says. `by`: what sets a number, where that is not the machine itself."""

    cpus: int
    gpus: int
    memory: int | None = None
    by: Mapping[str, str] = field(default_factory=dict)

    def because(self, what: str) -> str:
        """What sets "cpus", "gpus" or "memory", in brackets behind a number; else nothing."""
        return f" ({self.by[what]})" if what in self.by else ""

    def __str__(self) -> str:
        cpus, gpus = _counted(self.cpus, "CPU"), _counted(self.gpus, "GPU")
        parts = [cpus + self.because("cpus"), gpus + self.because("gpus")]
        if self.memory is not None:
            parts.append(f"{self.memory / GIB:.1f} GiB of free memory{self.because('memory')}")
        return ", ".join(parts)


def machine() -> Machine:
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cpus = allowed_cpus(os.cpu_count() or 1, affinity, os.environ)
    found = {"cpus": cpus, "gpus": allowed_gpus(os.environ), "memory": free_memory(os.environ)}
    amounts = {what: one.amount for what, one in found.items() if one is not None}
    return Machine(**amounts, by={what: one.by for what, one in found.items() if one is not None and one.by})


def allowed_cpus(there: int, affinity: int | None, environment: Mapping[str, str], root: Path = ROOT) -> Allowed:
    """CPUs: the fewest that anything leaves, at least one. A search is one task of Slurm's."""
    found = [Allowed(there)]
    if affinity is not None:
        found.append(Allowed(affinity, "the CPU affinity"))
    if (quota := cpu_quota(root)) is not None:
        found.append(Allowed(max(1, int(quota)), QUOTA))
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if (cpus := _number(environment, name)) is not None:
            found.append(Allowed(cpus, name))
            break
    return min(found, key=lambda one: one.amount)


def allowed_gpus(environment: Mapping[str, str], root: Path = ROOT) -> Allowed:
    """NVIDIA GPUs whose device files may be opened, and of them those that CUDA shows, counted as CUDA does."""
    dev = root / "dev"
    devices = [one for one in dev.iterdir() if re.fullmatch(r"nvidia\d+", one.name)] if dev.is_dir() else []
    there = sum(os.access(one, os.R_OK | os.W_OK) for one in devices)
    found = Allowed(there, "the permissions of their devices" if there < len(devices) else "")
    value = environment.get(VISIBLE)
    if value is None or not devices:
        return found
    shown: list[str] = []
    for one in map(str.strip, value.split(",")):
        if not one.startswith(("GPU-", "MIG-")) and not (one.isdigit() and int(one) < there):
            break  # those before it count
        if one in shown:  # as torch has it
            return Allowed(0, VISIBLE)
        shown.append(one)
    return min(found, Allowed(len(shown), VISIBLE), key=lambda allowed: allowed.amount)


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs that the cgroups let this process have; None without a quota."""
    quotas = [_words(group / "cpu.max") for group in _groups(root, "")]
    quotas += [
        _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us") for group in _groups(root, "cpu")
    ]
    return min((int(one[0]) / int(one[1]) for one in quotas if len(one) == 2 and one[0].isdigit()), default=None)


def free_memory(environment: Mapping[str, str], root: Path = ROOT) -> Allowed | None:
    """Bytes that this process and its children may still take: of the machine, of every cgroup that they are in, and of the
    memory of a Slurm job, which counts as free; None where nobody says."""
    free = [
        Allowed(1024 * int(line.split()[1]))
        for line in _text(root / "proc/meminfo").splitlines()
        if line.startswith("MemAvailable:")
    ]
    for controller, limit, usage, cache in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for group in _groups(root, controller):
            most, used = "".join(_words(group / limit)), "".join(_words(group / usage))
            if most.isdigit() and used.isdigit():
                kept = dict(line.split() for line in _text(group / "memory.stat").splitlines())
                free.append(Allowed(max(0, int(most) - int(used) + int(kept.get(cache, 0))), MEMORY))
    each, cpus = _number(environment, "SLURM_MEM_PER_CPU"), _number(environment, "SLURM_CPUS_ON_NODE")
    if (whole := _number(environment, "SLURM_MEM_PER_NODE")) is not None:
        free.append(Allowed(whole * MIB, "SLURM_MEM_PER_NODE"))
    elif each is not None and cpus is not None:
        free.append(Allowed(each * cpus * MIB, "SLURM_MEM_PER_CPU"))
    return min(free, key=lambda one: one.amount, default=None)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """A positive one; Slurm says 0 of memory without a limit."""
    value = environment.get(name, "")
    return int(value) if value.isdigit() and int(value) else None


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'s' * (number > 1)}"


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroups that this process is in, the innermost first; `controller` "" is version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers
            inside = Path(path.lstrip("/"))
            # In a container the file may name the path outside of it: what is there then is its own top.
            yield from (top / one for one in (inside, *inside.parents) if (top / one).is_dir())


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
