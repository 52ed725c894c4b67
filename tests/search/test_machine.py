"""What a process may use, from the files that the kernel shows: of both versions of cgroups, inside a container and outside."""

import os
from pathlib import Path

import pytest

from search.machine import MEMORY, QUOTA, Allowed, Machine, allowed_cpus, allowed_gpus, cpu_quota, free_memory, machine

MIB = 2**20
UNLIMITED_V1 = 9223372036854771712


def tree(root, files):
    for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    4096 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    return root


def v2(group, most, used, cache=0, cpus="max 100000"):
    files = {"memory.max": most, "memory.current": used, "memory.stat": f"anon 1\ninactive_file {cache}\n"}
    return {f"sys/fs/cgroup/{group}{name}": text for name, text in {**files, "cpu.max": cpus}.items()}


def v1(group, most, used, cache=0):
    files = {
        "memory.limit_in_bytes": most,
        "memory.usage_in_bytes": used,
        "memory.stat": f"total_inactive_file {cache}\n",
    }
    return {f"sys/fs/cgroup/memory/{group}{name}": text for name, text in files.items()}


OF_V2, OF_V1 = {"proc/self/cgroup": "0::/a/b\n"}, {"proc/self/cgroup": "4:memory:/a\n1:cpu,cpuacct:/a\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, 4),
        (OF_V2 | v2("a/b/", "max\n", 0), 4),
        (OF_V2 | v2("a/b/", 3 * MIB, 2 * MIB, cache=MIB), 2),
        (OF_V2 | v2("a/b/", 9 * MIB, 0) | v2("a/", 3 * MIB, 2 * MIB), 1),  # the one above it is full
        (OF_V2 | v2("", 3 * MIB, MIB), 2),  # in a container: the path is that of outside
        (OF_V2 | v2("", MIB, 2 * MIB), 0),  # over its limit
        (OF_V1 | v1("a/", UNLIMITED_V1, MIB), 4),
        (OF_V1 | v1("a/", 3 * MIB, 2 * MIB, cache=MIB), 2),
        (OF_V1 | v1("a/", UNLIMITED_V1, 0) | v1("", 3 * MIB, MIB), 2),
    ],
)
def test_free_memory_is_the_least_that_anything_leaves(tmp_path, files, mib):
    assert free_memory({}, tree(tmp_path, files)) == (mib * MIB, MEMORY if mib < 4 else "")


def test_nobody_says(tmp_path):
    assert free_memory({}, tmp_path) is None
    assert cpu_quota(tmp_path) is None
    assert allowed_cpus(4, None, {}, tmp_path) == (4, "")
    assert allowed_gpus({}, tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("environment", "free"),
    [
        ({"SLURM_MEM_PER_NODE": "3"}, (3 * MIB, "SLURM_MEM_PER_NODE")),
        ({"SLURM_MEM_PER_CPU": "1", "SLURM_CPUS_ON_NODE": "2"}, (2 * MIB, "SLURM_MEM_PER_CPU")),
        ({"SLURM_MEM_PER_NODE": "0"}, (4 * MIB, "")),  # the whole node's
        ({"SLURM_MEM_PER_NODE": "9000"}, (4 * MIB, "")),
    ],
)
def test_memory_of_a_slurm_job(tmp_path, environment, free):
    assert free_memory(environment, tree(tmp_path, {})) == free


@pytest.mark.parametrize(
    ("affinity", "environment", "cpus"),
    [
        (8, {}, (8, "")),
        (3, {}, (3, "the CPU affinity")),
        (8, {"SLURM_CPUS_ON_NODE": "4"}, (4, "SLURM_CPUS_ON_NODE")),
        (8, {"SLURM_CPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "2"}, (2, "SLURM_CPUS_PER_TASK")),
        (2, {"SLURM_CPUS_PER_TASK": "4"}, (2, "the CPU affinity")),
    ],
)
def test_cpus_are_the_fewest_that_anything_leaves(tmp_path, affinity, environment, cpus):
    assert allowed_cpus(8, affinity, environment, tree(tmp_path, {})) == cpus


def test_less_than_one_cpu_is_one(tmp_path):
    root = tree(tmp_path, OF_V2 | v2("a/", "max", 0, cpus="50000 100000"))
    assert allowed_cpus(8, 8, {}, root) == (1, QUOTA)


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        (None, 4),
        ("0,1,2,3", 4),
        ("2", 1),
        ("", 0),
        ("NoDevFiles", 0),
        ("0,-1,2", 1),
        ("1,7,2", 1),  # there is no such GPU, and CUDA reads no further
        ("1,1", 0),
        ("GPU-8932f937, GPU-7b1c", 2),
    ],
)
def test_gpus_are_those_that_cuda_shows(tmp_path, visible, gpus):
    root = tree(tmp_path, {f"dev/{name}": "" for name in ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl")})
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert allowed_gpus(environment, root) == Allowed(gpus, "" if gpus == 4 else "CUDA_VISIBLE_DEVICES")


def test_what_a_machine_allows_is_said_with_its_reasons():
    assert str(Machine(1, 0, 3 * 2**30, {"cpus": QUOTA})) == f"1 CPU ({QUOTA}), no GPU, 3.0 GiB of free memory"


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        (OF_V2 | v2("a/b/", "max", 0), None),
        (OF_V2 | v2("a/b/", "max", 0, cpus="250000 100000"), 2.5),
        (OF_V2 | v2("a/b/", "max", 0) | v2("a/", "max", 0, cpus="50000 100000"), 0.5),
        (OF_V1 | {"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n"}, None),
        (
            OF_V1
            | {
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
    ],
)
def test_cpus_of_a_quota(tmp_path, files, cpus):
    assert cpu_quota(tree(tmp_path, files)) == cpus


def test_this_machine():
    here = machine()
    assert 1 <= here.cpus <= (os.cpu_count() or 1)
    if Path("/proc/meminfo").exists():
        assert here.memory is not None
        assert here.memory > 0
