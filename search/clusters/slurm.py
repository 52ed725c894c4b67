"""Batch scripts of Slurm."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

from search.clusters import planned, shell
from search.clusters.launch_file import Command, Finding, LaunchFile, Node, Result, Unchecked
from spaces.errors import nearest

# Long options of sbatch (its manual page, 22.05 to 25.11); the short ones below.
OPTIONS = [
    "account", "acctg-freq", "array", "batch", "bb", "bbf", "begin", "chdir", "cluster-constraint", "clusters",
    "comment", "constraint", "container", "container-id", "contiguous", "core-spec", "cores-per-socket", "cpu-freq",
    "cpus-per-gpu", "cpus-per-task", "deadline", "delay-boot", "dependency", "distribution", "error", "exclude",
    "exclusive", "export", "export-file", "extra", "extra-node-info", "get-user-env", "gid", "gpu-bind", "gpu-freq",
    "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "help", "hint", "hold",
    "ignore-pbs", "input", "job-name", "kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label",
    "mem", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus", "network", "nice", "no-kill", "no-requeue",
    "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node",
    "ntasks-per-socket", "open-mode", "output", "overcommit", "oversubscribe", "parsable", "partition", "power",
    "prefer", "priority", "profile", "propagate", "qos", "quiet", "reboot", "requeue", "reservation", "resv-ports",
    "segment", "signal", "sockets-per-node", "spread-job", "stepmgr", "switches", "test-only", "thread-spec",
    "threads-per-core", "time", "time-min", "tmp", "tres-bind", "tres-per-task", "uid", "usage", "use-min-nodes",
    "verbose", "version", "wait", "wait-all-nodes", "wckey", "wrap",
]  # fmt: skip
SHORT = {
    "A": "account", "c": "cpus-per-task", "G": "gpus", "J": "job-name", "k": "no-kill", "N": "nodes", "n": "ntasks", "o": "output",
    "p": "partition", "t": "time",
} | {letter: letter for letter in "abBCdDeFhHiILmMOqQsSvVwWx"}  # fmt: skip
OPTION = re.compile(r"(--[\w-]+|-\w)(?:=?(.+))?")


def is_one(file: LaunchFile) -> bool:
    return file.text.startswith("#!") and re.search(r"^#SBATCH\b", file.text, re.MULTILINE) is not None


def check(file: LaunchFile) -> Iterator[Result]:
    """What is wrong with a batch script."""
    script = Command(file.text, 1, "script")
    given: dict[str, tuple[str, int]] = {}
    for option, value, line in _directives(file.text):
        long, short = option.removeprefix("--"), option.removeprefix("-")
        is_long = option.startswith("--")
        given[long if is_long else SHORT.get(short, short)] = (value, line)
        if is_long and long not in OPTIONS:
            yield Finding(line, f"#SBATCH {option}: unknown option; {nearest(long, OPTIONS)}")
        if not is_long and short not in SHORT:
            yield Finding(line, f"#SBATCH {option}: unknown option")
    yield from _late(script)
    yield from shell.check([script])
    yield from shell.stops([script], "those of other jobs on the node; end the srun step in which it runs")
    yield from _ray(script)
    yield from _ending(script, given)
    yield from planned.check(
        [script], _nodes(given), None, planned.assignments(file.text), again="--requeue" if "requeue" in given else None
    )
    yield from _by_slurm(file)


def _directives(text: str) -> Iterator[tuple[str, str, int]]:
    """The options that sbatch reads, each with its value and its line: `--nodes=2`, `--nodes 2`, `-N 2`, `-N2`, several in a line."""
    lines = text.splitlines()
    for number, line in enumerate(lines[: _first_command(lines)], start=1):
        if not line.startswith("#SBATCH"):
            continue
        words = re.sub(r"\s#.*", "", line).split()[1:]
        for word, after in zip(words, [*words[1:], "-"], strict=True):
            if found := OPTION.fullmatch(word):
                yield found[1], found[2] or ("" if after.startswith("-") else after), number


def _late(script: Command) -> Iterator[Finding]:
    lines = script.text.splitlines()
    first = _first_command(lines)
    for number, line in enumerate(lines[first:], start=first + 1):
        if line.startswith("#SBATCH"):
            yield Finding(number, "#SBATCH: stands after the first command, and is not read")


def _first_command(lines: list[str]) -> int:
    """Its index; sbatch reads no further."""
    return next((index for index, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))


def _ray(script: Command) -> Iterator[Finding]:
    text = shell.without_comments(script.text)
    starts = list(re.finditer(r"\bray (?:start|symmetric-run)\b", text))
    if not starts:
        return
    line = script.line_of(starts[0].start())
    for wanted, why in (
        (
            "RAY_AUTH_MODE=token",
            "no token is asked for: export RAY_AUTH_MODE=token, with a token of mode 0600 for each job",
        ),
        ("--num-cpus", 'Ray counts the CPUs of the machine, not the job\'s: --num-cpus="$SLURM_CPUS_PER_TASK"'),
        ("SLURM_JOB_ID %", "two jobs on one node would take the same ports: make them of SLURM_JOB_ID"),
    ):
        if wanted not in text:
            yield Finding(line, f"`ray start`: {why}")
    if not re.search(r"RAY_TMPDIR=|--temp-dir", text):
        yield Finding(
            line, "`ray start`: two jobs on one node would share /tmp/ray: export RAY_TMPDIR=/tmp/ray-$SLURM_JOB_ID"
        )
    if "RAY_AUTH_TOKEN_PATH=" in text and not re.search(r"umask 0?77|chmod 0?600", text):
        yield Finding(line, "the token's file can be read by others: umask 077, or chmod 600")
    for found in re.finditer(r"\bsrun\b(?:\\\n|[^\n;&|])*", text):
        if (
            "ray start" in text[found.start() : found.start() + 2000]
            and "--cpus-per-task" not in found[0]
            and "-c" not in found[0].split()
        ):
            yield Finding(
                script.line_of(found.start()),
                'srun: takes no --cpus-per-task from sbatch since Slurm 22.05: add --cpus-per-task="$SLURM_CPUS_PER_TASK"',
            )


def _ending(script: Command, given: dict[str, tuple[str, int]]) -> Iterator[Finding]:
    signal, line = given.get("signal", ("", 1))
    if "requeue" in given and not signal:
        yield Finding(
            given["requeue"][1],
            "--requeue: without --signal=B:TERM@120 the time limit kills the search before it has saved what it has",
        )
    if "requeue" in given and "no-kill" in given and given["no-kill"][0] != "off":
        yield Finding(
            given["no-kill"][1],
            "--no-kill: a job whose first node fails runs on without its script until the time limit; left out, it queues again",
        )
    text = shell.without_comments(script.text)
    requeued = text.find("scontrol requeue")
    if requeued >= 0 and "RUNNING" not in text:
        yield Finding(
            script.line_of(requeued),
            "scontrol requeue: brings back a job that `scancel` ends, too; ask first whether `squeue --format %T` says RUNNING",
        )
    if signal and not signal.startswith(("B:", "R:B:", "BR:")):
        yield Finding(line, f"--signal={signal}: reaches the steps, not this script: B:{signal}")
    if signal and not re.search(r"^\s*trap\s+(?!''|\"\"|-).*\bTERM\b", text, re.MULTILINE):
        yield Finding(line, "--signal: the script has no `trap ... TERM` that hands it on to the search")


def _nodes(given: dict[str, tuple[str, int]]) -> list[Node]:
    def number(name: str) -> float:
        """`2` of 2-4, with which it starts."""
        found = re.match(r"\d+", given.get(name, ("", 0))[0])
        return float(found[0]) if found else 0

    def gpus(name: str) -> float:
        """Of `2`, `a100:2`, `a100`, which is one, and `gpu:a100:2`, beside which others may stand."""
        asked = [one.split("(")[0] for one in given.get(name, ("", 0))[0].split(",")]
        counts = [
            re.fullmatch(r"(?:.*:)?(\d+)", one) for one in asked if one and (name != "gres" or one.startswith("gpu"))
        ]
        return sum(float(found[1]) if found else 1 for found in counts)

    count = int(number("nodes") or 1)
    of_node = gpus("gpus-per-node") or gpus("gpus-per-task") or gpus("gpus") / count or gpus("gres")
    return [Node("nodes", count, number("cpus-per-task") or None, of_node)]


# What sbatch says where it has not heard from a controller: no answer, no slurm.conf, no munge.
UNHEARD = ("Unable to contact", "Could not establish a configuration source", "Munge", "Protocol authentication error")


def _by_slurm(file: LaunchFile) -> Iterator[Result]:
    sbatch, wanted = shutil.which("sbatch"), "whether this Slurm would take the job"
    if sbatch is None:
        yield Unchecked(f"{wanted}: there is no sbatch here")
        return
    try:
        done = subprocess.run(
            [sbatch, "--test-only", str(file.path)], capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        yield Unchecked(f"{wanted}: its controller has not answered for a minute")
        return
    said = done.stderr.strip().splitlines() or ["failed"]
    if done.returncode and any(words in done.stderr for words in UNHEARD):
        yield Unchecked(f"{wanted}: {said[-1]}")
    elif done.returncode:
        yield Finding(1, f"sbatch --test-only: {said[-1]}")
