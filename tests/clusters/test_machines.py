"""Machines of namespaces: apart from each other, and gone with the test, whatever ends it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clusters.machines import CHECKOUT, network
from tests.processes import tree
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
HELD = """
import sys
from pathlib import Path
from tests.clusters.machines import network
with network(Path(sys.argv[2]), "user", "node") as made:
    made.machines["node"].start("sleep 1234")
    print("up", flush=True)
    sys.stdin.read()
    assert sys.argv[1] != "fails"
"""


def outside():
    """What a machine could leave behind: interfaces, mounts, names of network namespaces."""
    interfaces = sorted(path.name for path in Path("/sys/class/net").iterdir())
    names = Path("/run/netns")
    return interfaces, Path("/proc/mounts").read_text(), sorted(names.iterdir()) if names.exists() else []


def test_a_machine_has_its_own_name_address_processes_and_files(tmp_path):
    with network(tmp_path, "user", "first", "second") as made:
        user, first, second = made.machines.values()
        said = user.run("for name in first second; do ssh $name 'hostname; hostname -I'; done").stdout
        assert said.split() == ["first", first.address, "second", second.address]
        first.run("touch /tmp/own ~/own /shared/common")
        assert second.run("ls /tmp/own ~/own /shared/common", check=False).stdout.split() == ["/shared/common"]
        first.start("exec -a mine sleep 1234")
        wait_until(lambda: "mine 1234" in first.processes())
        assert "mine 1234" not in second.processes()
        assert second.run(f"touch {CHECKOUT}/pyproject.toml", check=False).returncode != 0


def test_a_machine_without_power_says_nothing_and_boots_anew(tmp_path):
    with network(tmp_path, "user", "node") as made:
        user, node = made.machines.values()
        node.run("touch /tmp/own")
        node.cut_power()
        done = user.run("ssh -o ConnectTimeout=1 node true", check=False)
        assert done.returncode == 255
        assert "Connection refused" not in done.stderr + done.stdout
        made.boot("node")
        wait_until(lambda: user.run("ssh node true", check=False).returncode == 0)  # it had no route a moment ago
        assert "own" not in user.run("ssh node ls /tmp").stdout.split()


@pytest.mark.parametrize("ending", ["fails", "SIGINT", "SIGKILL"])
def test_nothing_is_left(ending, tmp_path):
    with network(tmp_path):
        pass  # skips the test where there can be none
    directory = tmp_path / "held"
    directory.mkdir()
    before = outside()
    with subprocess.Popen(
        [sys.executable, "-c", HELD, ending, directory],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        assert outside() == before
        processes = tree(process.pid) - {process.pid}
        assert len(processes) > 5
        if ending == "fails":
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[ending])
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert outside() == before
    assert not any((directory / "root").iterdir())
