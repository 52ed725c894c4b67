"""Claim: from the command to the first trial a search takes few processes, and half the CPU seconds that Ray takes as it comes.

On a small machine these CPU seconds are what a user waits for: nearly all of them are imports, each process for itself. A search is
started on an empty cache and ended after the first report; what it took until a lane took its first trial is told too. Every
process that it started is counted, those that are gone by then too. `--checkout` measures another working tree in turns with this one, for
two lines to compare: each with the .venv that its own `make setup` left, or with this one's where it has none, which tells the code's part alone.

    python -m benchmarks.startup
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks._shared import Options

HERE = Path(__file__).resolve().parents[1]
MARK = "PSF_SEARCH_STARTUP"
"""A variable whose value is in the environment of every process of one start, and of no other."""
LOOK = 0.2  # s; what a process spends between the last look and its end is missed
GIVE_UP = 600  # s
EVENTS = (" taken ", ": step ")
"""In a lane's log: a trial begins, and its first report."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Start:
    """One start, to some line in a lane's log: seconds, and CPU seconds of each process by id and start time, with its title."""

    seconds: float
    processes: dict[tuple[int, int], tuple[float, str]]

    @property
    def cpu_seconds(self) -> float:
        return sum(seconds for seconds, _ in self.processes.values())


def processes(mark: str) -> dict[tuple[int, int], tuple[float, str]]:
    """CPU seconds and title of every process with that mark."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={mark}\0".encode() not in (entry / "environ").read_bytes() + b"\0":
                continue
            values = (entry / "stat").read_text().rpartition(")")[2].split()  # from the third of proc(5) on
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:  # it is gone, or another user's
            continue
        found[int(entry.name), int(values[19])] = ((int(values[11]) + int(values[12])) / TICKS, title)
    return found


def start(checkout: Path, space: str, preset: str, folder: Path) -> list[Start]:
    """Start a search of a checkout, and end it after its first report: how it was at the first of each of `EVENTS`.

    Raises:
        RuntimeError: it ended before.
    """
    options = ["--space", space, "--preset", preset, "--name", "start", "--out", folder, "--cache", folder / "cache"]
    own = checkout / ".venv" / "bin" / "python"
    began = time.perf_counter()
    search = subprocess.Popen(
        [own if own.exists() else sys.executable, checkout / "search" / "run.py", *map(str, options)],
        cwd=checkout,
        env={**os.environ, MARK: folder.name, "PYTHONPATH": str(checkout)},  # not the checkout that is installed
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: dict[tuple[int, int], tuple[float, str]] = {}
    found: list[Start] = []
    try:
        while len(found) < len(EVENTS):
            if search.poll() is not None or time.perf_counter() - began > GIVE_UP:
                search.kill()
                raise RuntimeError(f"{checkout}: no trial began: {search.communicate()[0]}")
            seen |= processes(folder.name)
            logs = [log.read_text() for log in (folder / "start" / "logs").glob("lane-*.log")]
            if any(EVENTS[len(found)] in log for log in logs):
                found.append(Start(time.perf_counter() - began, dict(seen)))
            time.sleep(LOOK)
        return found
    finally:
        search.send_signal(signal.SIGINT)
        search.wait()


def name(title: str) -> str:
    """What a process is, from its title."""
    found = re.search(r"ray::\w+|[\w-]+\.py|gcs_server|raylet\b", title)
    return found[0] if found else title.split(" ")[0].rpartition("/")[2]


def main() -> None:
    options = Options(__doc__)
    options.add_argument("--checkout", type=Path, help="another working tree to measure beside this one")
    options.add_argument("--space", default="cvae_psf")
    options.add_argument("--preset", default="quick")
    options.add_size("--repeats", 1, 1, "starts of each working tree")
    arguments = options.parse()
    checkouts = [HERE, *([arguments.checkout.resolve()] if arguments.checkout else [])]
    cpu_seconds: list[list[float]] = [[] for _ in checkouts]
    for _ in range(arguments.repeats):
        for checkout, of_it in zip(checkouts, cpu_seconds, strict=True):
            with tempfile.TemporaryDirectory() as folder:
                found = start(checkout, arguments.space, arguments.preset, Path(folder))
            for what, one in zip(("first trial", "first report"), found, strict=True):
                wall, cpu = one.seconds, one.cpu_seconds
                print(f"{checkout.name}: {what} after {wall:.0f} s, {len(one.processes)} processes, {cpu:.0f} CPU s")
            of_it.append(found[0].cpu_seconds)
            ranked = sorted(found[0].processes.values(), reverse=True)
            print(*(f"{seconds:8.1f} {name(title)}" for seconds, title in ranked), sep="\n", flush=True)
    here, *others = map(median, cpu_seconds)
    for other in others:
        print(f"cpu_seconds_to_checkout={here / other:.2f}")
    print(f"cpu_seconds={here:.1f}")


if __name__ == "__main__":
    main()
