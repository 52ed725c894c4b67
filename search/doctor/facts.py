"""What a node says of itself. Ray sends this module as code, not as a name: it also runs where psf-search is missing or older.

So it needs Python's own library alone, and `search.machine`, which is sent along.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from search.machine import VISIBLE, Machine, machine

OURS = ("spaces", "deeplens_workers", "trainables", "results", "search")
NCCL, GLOO = "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"
RAYS, SHM = "Ray's files", "/dev/shm"
"""Two of the disks, by name."""
GET_ADDRESS = 0x8915
"""Linux: SIOCGIFADDR, an interface's IPv4 address."""
GPU_PATIENCE = 60.0
"""Seconds for torch to load and to multiply on every GPU, and for nvidia-smi."""
MULTIPLY = """
import json, torch
found = []
for number in range(torch.cuda.device_count()):
    try:
        one = torch.ones(64, 64, device=f"cuda:{number}")
        right = (one @ one).sum().item() == 64**3
        found.append("" if right else "a product of matrices is wrong")
    except Exception as error:
        found.append(str(error).partition("\\n")[0])
print(json.dumps([torch.version.cuda, found]))
"""


@dataclass(frozen=True)
class Disk:
    """A directory's file system, in bytes; `device`: its number, the same for all directories on it."""

    device: int
    free: int
    total: int


@dataclass(frozen=True)
class Meeting:
    """A directory where the driver and a node look for each other's files. `driver`: the name of the driver's, which it holds a lock of;
    None if it has none. `own`: the name of the node's. `text`: what stands in both.
    """

    directory: str
    driver: str | None
    own: str
    text: str


@dataclass(frozen=True)
class Place:
    """What came of a meeting, on the node's side. `common`: it sees the driver's file there. `lock`: "common" if the driver's lock
    holds there too, "own" if it does not, else what the system says. `error`: why nothing can be written there, if so.
    """

    directory: str
    there: bool
    common: bool | None = None
    lock: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Gpus:
    """NVIDIA's driver names them; of those that torch shows, "" or what is wrong; `cuda`: torch's version, None in a build without."""

    names: tuple[str, ...]
    shown: tuple[str, ...] = ()
    cuda: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """What is so on a node. `packages`: versions, None of what is missing. `source`: see `digest`. `interfaces`: their IPv4 addresses, in the
    kernel's order. `host_address`: what the host's own name means there. `gpus`: None where there is no sign of any.
    """

    host: str
    user: int
    executable: str
    python: str
    packages: Mapping[str, str | None]
    source: str | None
    machine: Machine
    disks: Mapping[str, Disk]
    places: Mapping[str, Place]
    interfaces: Mapping[str, str]
    host_address: str | None
    environment: Mapping[str, str]
    gpus: Gpus | None

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Facts:
        """From what `gather` returns."""
        found = dict(answer)
        found["machine"] = Machine(**found["machine"])
        found["disks"] = {name: Disk(**one) for name, one in found["disks"].items()}
        found["places"] = {name: Place(**one) for name, one in found["places"].items()}
        found["gpus"] = None if found["gpus"] is None else Gpus(**found["gpus"])
        return cls(**found)


def gather(packages: Sequence[str], disks: Mapping[str, str], meetings: Mapping[str, Meeting]) -> dict[str, Any]:
    """Everything that this node says of itself, as plain values.

    Args:
        packages: distributions whose versions are asked for.
        disks: directories whose space is, by name.
        meetings: by option. The node's own files stay there until `leave`.
    """
    facts = Facts(
        host=socket.gethostname(),
        user=os.getuid(),
        executable=sys.executable,
        python=platform.python_version(),
        packages={name: _version(name) for name in packages},
        source=digest(),
        machine=machine(),
        disks={name: one for name, path in disks.items() if (one := _disk(path)) is not None},
        places={option: _meet(one) for option, one in meetings.items()},
        interfaces=interfaces(),
        host_address=_address(),
        environment={name: os.environ[name] for name in (VISIBLE, NCCL, GLOO) if name in os.environ},
        gpus=_gpus(),
    )
    return asdict(facts)


def leave(files: Iterable[str]) -> float:
    """Remove a node's own files; returns its clock, in seconds."""
    for file in files:
        with suppress(OSError):
            os.unlink(file)
    return time.time()


def digest() -> str | None:
    """Eight hexadecimal digits of the installed source of psf-search, the same for the same Python files; None if a package is missing."""
    found = hashlib.sha256()
    for package in OURS:
        if (top := _home(package)) is None:
            return None
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(set(folders) - {"runs", "cache", "__pycache__"})  # what searches leave in a checkout
            for path in (Path(folder, name) for name in sorted(names) if name.endswith(".py")):
                found.update(f"{package}/{path.relative_to(top)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:8]


def _home(package: str) -> Path | None:
    """Where a package is, which is not imported. A mere directory of its name, such as the `results` of a search, may come first."""
    for finder in sys.meta_path:
        spec = finder.find_spec(package, None)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent
    return None


def interfaces() -> dict[str, str]:
    """IPv4 addresses by interface, in the kernel's order; none where the kernel is not Linux."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has none
                answer = fcntl.ioctl(one, GET_ADDRESS, struct.pack("256s", name.encode()))
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def _address() -> str | None:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _disk(path: str) -> Disk | None:
    """Of a path to be, its nearest parent's."""
    there = next((one for one in (Path(path), *Path(path).parents) if os.path.isdir(one)), None)
    if there is None:
        return None
    usage = shutil.disk_usage(there)
    return Disk(os.stat(there).st_dev, usage.free, usage.total)


def _meet(meeting: Meeting) -> Place:
    directory = Path(meeting.directory)
    if not os.path.isdir(directory):  # of one that may not be seen, `Path.is_dir` raises
        return Place(meeting.directory, there=False)
    common = lock = error = None
    try:
        with (directory / meeting.own).open("x") as own:
            own.write(meeting.text)
            lock = _lock(own.fileno(), fcntl.LOCK_EX)
    except OSError as refused:
        error = refused.strerror or str(refused)
    if meeting.driver is not None:
        driver = directory / meeting.driver
        with suppress(OSError):
            common = False
            common = driver.read_text() == meeting.text
        if common and lock == "own":  # as its own file should be
            with suppress(OSError), driver.open() as file:  # to read: it may be another user's
                lock = _lock(file.fileno(), fcntl.LOCK_SH)
    return Place(meeting.directory, True, common, lock, error)


def _lock(file: int, kind: int) -> str:
    """Whether another process has the lock of an open file; it is not kept."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return "common"
    except OSError as error:
        return error.strerror or str(error)
    fcntl.flock(file, fcntl.LOCK_UN)
    return "own"


def _gpus() -> Gpus | None:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    devices = [one.name for one in Path("/dev").glob("nvidia[0-9]*")]
    if not devices and shutil.which(query[0]) is None:
        return None
    names: Sequence[str] = sorted(devices)
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=GPU_PATIENCE, check=True)
        names = done.stdout.splitlines()
    except FileNotFoundError:
        pass  # a container may have the devices without it
    except (OSError, subprocess.SubprocessError) as error:
        return Gpus(tuple(names), error=f"nvidia-smi fails: {_said(error)}")
    try:  # in a process of its own: it takes memory of each GPU
        done = subprocess.run(
            [sys.executable, "-c", MULTIPLY], capture_output=True, text=True, timeout=GPU_PATIENCE, check=True
        )
        cuda, shown = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Gpus(tuple(names), error=f"torch fails: {_said(error)}")
    return Gpus(tuple(names), tuple(shown), cuda)


def _said(error: Exception) -> str:
    """The last line that a process printed, or what the error says."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:g} s"
    printed = [
        line
        for text in (getattr(error, "stdout", ""), getattr(error, "stderr", ""))
        for line in (text or "").splitlines()
    ]
    return next((line for line in reversed(printed) if line.strip()), str(error))
