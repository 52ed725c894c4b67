"""What is made of what machines say: one thing is wrong at a time."""

from dataclasses import replace

import pytest

from search.doctor.facts import GLOO, NCCL, RAYS, SHM, Disk, Facts, Gpus, Place
from search.doctor.findings import judge
from search.doctor.networks import taken
from search.doctor.node import Clock, Node
from search.machine import GIB, MIB, Machine

FACTS = Facts(
    host="node",
    user=1000,
    executable="/venv/bin/python",
    python="3.12.4",
    packages={"psf-search": "0.1.0", "ray": "2.60.0", "torch": "2.15.0", "scipy": "1.15.0"},
    source="01234567",
    machine=Machine(8, 1, 32 * GIB, {"cpus": "SLURM_CPUS_PER_TASK"}),
    disks={RAYS: Disk(1, 50 * GIB, 100 * GIB), "/tmp": Disk(1, 50 * GIB, 100 * GIB), SHM: Disk(2, 8 * GIB, 8 * GIB)},
    places={option: Place("/shared", True, True, "common") for option in ("--out", "--cache")},
    interfaces={"lo": "127.0.0.1", "eth0": "10.0.0.2"},
    host_address="10.0.0.2",
    environment={},
    gpus=Gpus(("H200",), ("",), "13.0"),
)
SEEN = {"--out": True, "--cache": True}
NODE = Node("2", "10.0.0.2", "node", {"CPU": 8.0, "GPU": 1.0}, "/tmp/ray/s", FACTS, clock=Clock(0.0, 0.001), seen=SEEN)
HEAD = replace(
    NODE, id="1", address="10.0.0.1", facts=replace(FACTS, interfaces={"eth0": "10.0.0.1"}, host_address="10.0.0.1")
)


def found(node, **options):
    return [str(one) for one in judge(FACTS, [HEAD, node], **options)]


def with_facts(**changes):
    return replace(NODE, facts=replace(FACTS, **changes))


def with_place(option="--cache", **changes):
    return with_facts(places={**FACTS.places, option: replace(FACTS.places[option], **changes)})


def test_nothing_is_wrong():
    assert found(NODE, expected=2, lost=["of no interest"]) == []


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (replace(NODE, facts=None, silence="no answer in 180 s"), ["error", "no answer in 180 s"]),
        (with_facts(source=None), ["error", "psf-search is not installed", "/venv/bin/python"]),
        (with_facts(source="89abcdef"), ["error", "another source", "89abcdef", "01234567"]),
        (with_facts(python="3.12.3"), ["error", "3.12.3", "3.12.4"]),
        (with_facts(packages={**FACTS.packages, "torch": "2.14.0"}), ["error", "torch 2.14.0", "2.15.0"]),
        (with_facts(packages={**FACTS.packages, "torch": "2.15.0+cu130"}), []),
        (with_facts(packages={**FACTS.packages, "scipy": None}), ["warning", "scipy missing"]),
        (replace(NODE, resources={"CPU": 64.0, "GPU": 1.0}), ["warning", "64", "SLURM_CPUS_PER_TASK", "--num-cpus=8"]),
        (replace(NODE, resources={"CPU": 8.0}), ["warning", "0 of 1 GPUs"]),
        (replace(NODE, resources={"CPU": 8.0, "GPU": 2.0}), ["error", "2 GPUs"]),
        (with_facts(machine=replace(FACTS.machine, memory=2 * GIB)), ["warning", "2.0 GiB are free", "room for 3"]),
        (with_facts(gpus=Gpus(("H200",), ("out of memory",), "13.0")), ["error", "GPU 0", "out of memory"]),
        (with_facts(gpus=Gpus(("H200",), (), "13.0")), ["error", "sees no GPU"]),
        (with_facts(gpus=Gpus(("H200",), (), None)), ["error", "without CUDA"]),
        (with_facts(gpus=Gpus(("H200",), error="nvidia-smi fails: no answer")), ["error", "nvidia-smi fails"]),
        (
            replace(
                with_facts(gpus=Gpus((), error="nvidia-smi fails: no driver"), machine=replace(FACTS.machine, gpus=0)),
                resources={"CPU": 8.0},
            ),
            ["warning", "nvidia-smi fails"],
        ),
        (with_facts(disks={RAYS: Disk(1, GIB, 100 * GIB), "/tmp": Disk(1, GIB, 100 * GIB)}), ["warning", RAYS, "/tmp"]),
        (with_facts(disks={RAYS: Disk(1, 40 * GIB, 1000 * GIB)}), ["warning", "4 %", "session_"]),
        (with_facts(disks={SHM: Disk(2, 64 * MIB, 64 * MIB)}), ["warning", "64 MiB", "--shm-size"]),
        (with_place(there=False, common=None, lock=None), ["error", "--cache /shared: is not there"]),
        (with_place(common=False), ["error", "--cache /shared: is not the driver's"]),
        (replace(NODE, seen=SEEN | {"--out": False}), ["error", "--out /shared: is not the driver's"]),
        (with_place(error="Permission denied"), ["error", "Permission denied", "user 1000"]),
        (with_place(lock="own"), ["error", "flock"]),
        (with_place("--out", lock="own"), ["warning", "flock"]),
        (with_place(lock="Function not implemented"), ["error", "Function not implemented"]),
        (replace(NODE, clock=Clock(-3.5, 0.1)), ["warning", "3.5 s behind"]),
        (replace(NODE, clock=Clock(3.5, 3.0)), []),  # it may be right
        (with_facts(host_address="127.0.1.1"), ["warning", "gloo takes lo", "127.0.1.1", f"{GLOO}=eth0"]),
        (with_facts(host_address="127.0.1.1", environment={GLOO: "eth0"}), []),
        (with_facts(environment={GLOO: "eth9"}), ["warning", "eth9", "lo, eth0"]),
        (
            with_facts(interfaces={**FACTS.interfaces, "virbr0": "192.168.122.1"}),
            ["warning", "NCCL may take any of eth0, virbr0", f"{NCCL}=eth0"],
        ),
        (with_facts(interfaces={**FACTS.interfaces, "docker0": "172.17.0.1"}), []),
    ],
)
def test_what_is_wrong_with_a_node(node, says):
    lines = found(node)
    assert len(lines) == bool(says), lines
    for word in says:
        assert word in lines[0]


def test_nodes_of_one_kind_alone_have_no_networks_to_choose():
    assert judge(FACTS, [with_facts(host_address="127.0.1.1")]) == []


def test_a_cluster_that_is_not_complete():
    (line,) = map(str, judge(FACTS, [NODE], expected=3, lost=["10.0.0.9: preempted"]))
    assert line.startswith("error: the cluster: 1 of 3 nodes")
    assert "10.0.0.9: preempted" in line
    (line,) = map(str, judge(FACTS, [replace(NODE, resources={"GPU": 1.0})]))
    assert "no node has a CPU" in line


def test_a_machine_alone():
    assert judge(FACTS, []) == []
    lacking = replace(FACTS, packages={**FACTS.packages, "ray": None})
    (line,) = map(str, judge(lacking, []))
    assert "not installed in /venv/bin/python: ray" in line
    refused = replace(FACTS, places={"--out": Place("/out", True, error="Read-only file system")})
    (line,) = map(str, judge(refused, []))
    assert "--out /out: cannot be written to: Read-only file system" in line


def test_what_the_driver_cannot_write_to_is_said_once():
    driver = replace(FACTS, places={"--out": Place("/out", True, error="Permission denied")})
    node = with_facts(places={"--out": Place("/out", True, error="Permission denied")})
    (line,) = map(str, judge(driver, [node]))
    assert line.startswith("error: the driver: --out /out: cannot be written to: Permission denied")


@pytest.mark.parametrize(
    ("names", "setting", "takes"),
    [
        (["lo", "docker0", "eth0"], None, "eth0"),
        (["lo", "eth0", "ib0"], None, "ib0"),
        (["lo", "docker0"], None, "docker0"),
        (["lo"], None, "lo"),
        (["lo", "eth0", "eth1"], "eth1", "eth1"),
        (["lo", "eth10", "eth1"], "=eth1", "eth1"),
        (["lo", "docker0", "eth0"], "^docker,lo", "eth0"),
        (["lo", "eth0"], "ens", None),
    ],
)
def test_the_interface_that_nccl_takes(names, setting, takes):
    """As its documentation of NCCL_SOCKET_IFNAME has it."""
    facts = replace(
        FACTS,
        interfaces={name: f"10.0.0.{number}" for number, name in enumerate(names)},
        environment={} if setting is None else {NCCL: setting},
    )
    assert taken(facts, "10.0.0.0")["NCCL"] == takes
