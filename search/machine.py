"""What this process may use of the machine: what it has, less what an affinity, a cgroup of either version or a variable takes away."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """`memory` in bytes: what is free; None where nobody says."""

    cpus: int
    gpus: int
    memory: int | None = None


def machine() -> Machine:
    return Machine(_cpus(), _gpus(), free_memory())


def _cpus() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return there if quota is None else min(there, max(1, int(quota)))


def _gpus() -> int:
    gpus, visible = len(glob.glob("/dev/nvidia[0-9]*")), os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and visible is not None:
        gpus = len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return gpus


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the cgroups let this process have; None without a quota."""
    quotas = [_words(group / "cpu.max") for group in _groups(root, "")]
    quotas += [
        _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us") for group in _groups(root, "cpu")
    ]
    return min((int(one[0]) / int(one[1]) for one in quotas if len(one) == 2 and one[0].isdigit()), default=None)


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process and its children may still take: of the machine, and of every cgroup that they are in."""
    free = [
        1024 * int(line.split()[1])
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
                free.append(max(0, int(most) - int(used) + int(kept.get(cache, 0))))
    return min(free, default=None)


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
