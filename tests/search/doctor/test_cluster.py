"""`psf-search doctor --address`: a head here, and a node with faults that joins later, in a mount namespace of its own."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from search.doctor.facts import OURS
from tests.processes import tree
from tests.search.test_search import ROOT
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
# Its `out` is read-only, and its `cache` another disk.
FAULTY = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --bind -o ro "$0" "$0" && mount -t tmpfs none "$1" && shift && exec "$@"',
]


def free_ports(number):
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("", 0))
        return [str(one.getsockname()[1]) for one in sockets]


class Cluster:
    """The head of one, and nodes that join it; ended by `close`. `out` and `cache` are the directories of a search."""

    def __init__(self, root):
        self.root, self.home = root, tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets' names are short
        self.out, self.cache = root / "out", root / "cache"
        self.out.mkdir()
        self.cache.mkdir()
        self.processes = []
        self.environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.environment.pop("RAY_ADDRESS", None)
        port, self.client_port = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        options = ["--head", "--port", port, "--ray-client-server-port", self.client_port, "--temp-dir", self.home]
        self.start([], [*options, "--include-dashboard", "false", "--num-cpus", "1"], {})
        wait_until(self._is_up)

    def start(self, prefix, options, environment):
        command = [*prefix, BIN / "ray", "start", "--block", "--disable-usage-stats", *options]
        self.log = self.root / f"ray-{len(self.processes)}.log"
        with self.log.open("w") as file:
            started = subprocess.Popen(
                command, stdout=file, stderr=file, env=self.environment | environment, process_group=0
            )
        self.processes.append(started)

    def _is_up(self):
        assert self.processes[-1].poll() is None, self.log.read_text()
        return "Ray runtime started" in self.log.read_text()

    def doctor(self, *options, prefix=(), **environment):
        arguments = [*prefix, BIN / "psf-search", "doctor", "--address", self.address, *map(str, options)]
        places = ["--out", self.out, "--cache", self.cache]
        return subprocess.Popen(
            [*arguments, *places],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.root,
            env=self.environment | environment,
        )

    def close(self):
        its = {pid for process in self.processes for pid in tree(process.pid)}
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in its))
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


def told(process):
    """What it printed, its errors, and its exit code."""
    printed, errors = process.communicate()
    return printed, errors, process.returncode


def an_older_version(site):
    """A directory of Python's path with psf-search 0.0.9, of which nothing would work."""
    for package in OURS:
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("raise ImportError\n")
    (site / "psf_search-0.0.9.dist-info").mkdir()
    (site / "psf_search-0.0.9.dist-info" / "METADATA").write_text("Name: psf-search\nVersion: 0.0.9\n")
    return str(site)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RAY_AUTH_TOKEN": "wrong"}, "the cluster refuses the token that is here"),
        ({"RAY_AUTH_MODE": "disabled"}, "the cluster asks for a token: set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": "/none"}, "there is none in RAY_AUTH_TOKEN"),
    ],
)
def test_a_token_that_is_not_the_clusters(cluster, environment, says):
    printed, errors, code = told(cluster.doctor(**environment))
    assert (printed, code) == ("", 2)
    assert says in errors
    assert errors.count("\n") == 1


def test_a_machine_that_is_no_node(cluster):
    """Which a driver is that sees none of the cluster's processes."""
    prefix = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespaces can be made here")
    _, errors, code = told(cluster.doctor(prefix=prefix))
    assert code == 2, errors
    assert "no node of that cluster runs on this machine" in errors.splitlines()[-1]


def test_a_port_of_ray_that_is_not_the_heads(cluster):
    arguments = [str(BIN / "psf-search"), "doctor", "--address", f"127.0.0.1:{cluster.client_port}"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=cluster.root, check=False)
    assert done.returncode == 2
    assert "is no head of a Ray cluster" in done.stderr


def test_a_sound_cluster_of_one_node(cluster):
    printed, errors, code = told(cluster.doctor("--nodes", 1, "--json"))
    assert code == 0, printed + errors
    said = json.loads(printed)
    (node,) = said["nodes"]
    assert node["facts"]["source"] == said["driver"]["source"]
    assert {one["lock"] for one in node["facts"]["places"].values()} == {"common"}
    assert abs(node["clock"]["ahead"]) <= node["clock"]["error"]
    assert not [one for one in said["findings"] if one["level"] == "error"]


def test_nodes_that_are_missing(cluster):
    printed, _, code = told(cluster.doctor("--nodes", 2))
    assert code == 1
    assert "error: the cluster: 1 of 2 nodes" in printed


@pytest.fixture(scope="module")
def joined(cluster, tmp_path_factory):
    """What doctor prints of a node with faults that joins while it waits."""
    site = an_older_version(tmp_path_factory.mktemp("site") / "old")
    prefix = [*FAULTY, cluster.out, cluster.cache]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces can be made here")
    waiting = cluster.doctor("--nodes", 2, "--wait", 300)
    first = waiting.stdout.readline()
    assert first.startswith("1 of 2 nodes"), first
    cluster.start(prefix, ["--address", cluster.address, "--num-cpus", "999"], {"PYTHONPATH": site})
    return told(waiting)


def test_a_node_with_faults_is_told_of_line_by_line(joined, cluster):
    printed, errors, code = joined
    assert code == 1, errors
    lines = printed.splitlines()
    assert "has joined: 2 of 2 nodes" in lines[0]
    assert max(len(line) for line in lines if "│" in line or "──" in line) <= 100

    def errors_with(*words):
        return [line for line in lines if line.startswith("error: ") and all(word in line for word in words)]

    assert errors_with("psf-search 0.0.9")
    assert errors_with(f"--out {cluster.out}", "Read-only file system")
    assert errors_with(f"--cache {cluster.cache}", "is not the driver's")
    assert len(errors_with()) == 3, printed
    assert [line for line in lines if line.startswith("warning: ") and "999 CPUs" in line]
    assert lines[-1].startswith("2 nodes: 3 errors")


def test_nothing_stays_behind(joined, cluster):
    assert not any(cluster.out.iterdir())
    assert not any(cluster.cache.iterdir())


HUNG = """
import os, signal, sys
from pathlib import Path
from search.address import join
from search.doctor.cluster import ask, wait_for_nodes
from search.doctor.storage import Storage
from tests.processes import tree
join(sys.argv[1])
nodes, _ = wait_for_nodes(None, 0, print)
stopped = [pid for pid in tree(int(sys.argv[2])) if b"/raylet" in Path(f"/proc/{pid}/cmdline").read_bytes()]
for pid in stopped:
    os.kill(pid, signal.SIGSTOP)
try:
    with Storage({}) as storage:
        answers = ask(nodes, ["ray"], storage, limit=5)
finally:
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
assert len(stopped) == 1
print(sorted(node.silence for node in answers))
"""


def test_a_node_that_hangs_is_not_waited_for(joined, cluster):
    arguments = [sys.executable, "-c", HUNG, cluster.address, str(cluster.processes[-1].pid)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, cwd=ROOT, env=cluster.environment, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['', 'no answer in 5 s']"
