"""Machines made of namespaces, for tests of what runs on several: each has its own address, processes, files and sshd.

Nothing of them is outside of the namespaces, no interface and no mount, and they end with the process that made them, whatever ends it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
HOME = Path.home()
SUBNET = "10.77.0"
PROGRAMS = {
    "setpriv": "util-linux", "ip": "iproute2", "ssh": "openssh-client", "sshd": "openssh-server", "rsync": "rsync", "git": "git",
}  # fmt: skip
"""What it takes, and the packages of Debian that have it."""
# Namespaces end with their first process: that one is killed with `unshare`, and `unshare` with the process of the tests.
NAMESPACES = [
    "setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL",
]  # fmt: skip


@dataclass
class Machine:
    """One machine: its own host name, address, processes, home directory, `/tmp`, `/etc`, `/var` and `/dev/shm`.

    Args:
        unshare: which made the namespaces.
        pid: of the first process in them, seen from outside.
        path: where its shell looks for programs.
    """

    name: str
    address: str
    unshare: subprocess.Popen[bytes]
    pid: int
    path: str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Have its shell run something to its end, in the home directory.

        Raises:
            AssertionError: it failed, and `check` is set; with all that it printed.
        """
        done = subprocess.run(self._inside(script), capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{self.name}: {script}\n{done.stdout}{done.stderr}"
        return done

    def start(self, script: str) -> subprocess.Popen[str]:
        """The same beside the test, which reads its lines from `stdout`. It ends with the machine."""
        return subprocess.Popen(
            self._inside(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _inside(self, script: str) -> list[str]:
        entered = [
            "nsenter",
            "--target",
            str(self.pid),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            f"--wdns={HOME}",
        ]
        environment = [f"HOME={HOME}", f"PATH={self.path}", "USER=root", "SHELL=/bin/bash", "LANG=C.UTF-8", "TERM=dumb"]
        return [*entered, "env", "-i", *environment, "bash", "-c", script]

    def processes(self) -> list[str]:
        """Command lines of all that it runs."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.readlink(entry / "ns" / "pid") == namespace:
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
                except OSError:  # it has just ended
                    continue
        return found

    def rays(self) -> list[str]:
        """Those of them that are Ray's."""
        return [
            line for line in self.processes() if line.startswith("ray::") or "/ray/" in line or "/ray start" in line
        ]

    def cut_power(self) -> None:
        """End all of it at once: nobody is told, and nothing answers at its address."""
        self.unshare.kill()
        self.unshare.wait()
        wait_until(lambda: not Path(f"/proc/{self.pid}").exists())


@dataclass
class Network:
    """Machines on one switch, which is a network namespace, too.

    Args:
        directory: what they share with the test, outside of the namespaces; `shared` in it is `/shared` on each of them.
        names: of the machines, with the addresses 10.77.0.1 and so on.
        seen: directories that they see read-only, and where.
    """

    directory: Path
    names: Sequence[str]
    seen: Mapping[Path, Path]
    switch: subprocess.Popen[bytes]
    machines: dict[str, Machine] = field(default_factory=dict)

    def boot(self, name: str) -> Machine:
        """Start a machine, also one whose power was cut: it remembers nothing."""
        log = self.directory / f"{name}.log"
        seen = [f"{source}:{target}" for target, source in self.seen.items()]
        script = [
            "bash",
            "-O",
            "extglob",
            str(Path(__file__).with_name("machine.sh")),
            name,
            str(self.directory),
            *seen,
        ]
        with log.open("wb") as file:
            started = subprocess.Popen([*NAMESPACES, *script], stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        made = self.machines[name] = Machine(name, f"{SUBNET}.{self.names.index(name) + 1}", started, 0)

        def booted() -> bool:
            assert started.poll() is None, log.read_text()
            made.pid = _child(started)
            return log.read_text().endswith("booted\n")

        wait_until(booted)
        self.ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(made.pid))
        self.ip("link", "set", name, "master", "switch", "up")
        made.run(f"ip address add {made.address}/24 dev eth0 && ip link set eth0 up")
        return made

    def ip(self, *arguments: str) -> None:
        """The command `ip`, in the switch's namespace."""
        subprocess.run(["nsenter", "--target", str(_child(self.switch)), "--net", "ip", *arguments], check=True)


def _child(unshare: subprocess.Popen[bytes]) -> int:
    """The first process in the namespaces; 0 if there is none yet."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    return int(children[0]) if children else 0


@contextmanager
def network(
    directory: Path, *names: str, programs: Mapping[str, str] | None = None, seen: Mapping[Path, Path] | None = None
) -> Iterator[Network]:
    """Machines that reach each other by ssh, without a password. Skips the test where none can be made.

    They see the checkout and its Python at their own addresses, read-only, and a common directory `/shared`.

    Args:
        directory: an empty one.
        names: of the machines.
        programs: that the test needs besides, with the packages of Debian that have them.
        seen: more directories, and where they are seen.
    """
    _skip_without(PROGRAMS | dict(programs or {}))
    python = {Path(path).resolve() for path in (sys.prefix, sys.base_prefix)}
    everything = {path: path for path in sorted({CHECKOUT, *python})} | {to: of for of, to in (seen or {}).items()}
    for folder in ("ssh", "shared", "root"):
        (directory / folder).mkdir()
    key = directory / "ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (directory / "ssh" / "config").write_text(
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n"
    )
    addresses = [f"{SUBNET}.{number} {name}\n" for number, name in enumerate(names, start=1)]
    (directory / "hosts").write_text("".join(["127.0.0.1 localhost\n", *addresses]))
    made_network = Network(directory, names, everything, subprocess.Popen([*NAMESPACES, "sleep", "infinity"]))
    try:
        wait_until(lambda: _child(made_network.switch))
        made_network.ip("link", "add", "switch", "type", "bridge")
        made_network.ip("link", "set", "switch", "up")
        for name in names:
            made_network.boot(name)
        yield made_network
    finally:
        for machine in made_network.machines.values():
            machine.cut_power()
        made_network.switch.kill()
        made_network.switch.wait()


def _skip_without(programs: Mapping[str, str]) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    missing = sorted({package for program, package in programs.items() if shutil.which(program, path=path) is None})
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install {' '.join(missing)}")
    tried = subprocess.run(
        [*NAMESPACES, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        pytest.skip(f"no namespaces can be made here: {tried.stderr.strip()}")
