"""What can be known of the shell commands of a launch file."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator

from search.clusters.launch_file import Command, Finding

BASH = shutil.which("bash")
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|(?:TOKEN|SECRET|PASSWORD|API_KEY)(?:_(?!PATH|FILE)[A-Z]+)?['\"]?\s*[=:]\s*['\"]?[A-Za-z0-9+/_-]{16,}"
)
REMOTE = "runs with OMP_NUM_THREADS=1, which Ray sets over ssh, and so would every training: put `unset OMP_NUM_THREADS;` before it"


def check(commands: Iterable[Command]) -> Iterator[Finding]:
    """Mistakes of any command: its syntax, a dashboard open to the network."""
    for command in commands:
        yield from _syntax(command)
        for found in re.finditer(r"--dashboard-host[= ]['\"]?(0\.0\.0\.0|::)", command.text):
            yield Finding(
                command.line_of(found.start()),
                f"--dashboard-host={found[1]}: open to the network; use 127.0.0.1 and ssh -L 8265:localhost:8265",
            )


def _syntax(command: Command) -> Iterator[Finding]:
    if BASH is None:
        return
    done = subprocess.run([BASH, "-n"], input=command.text, capture_output=True, text=True, check=False)
    if done.returncode:
        number, said = (re.search(r"line (\d+): (.*)", done.stderr) or re.match("()(.*)", done.stderr)).groups()  # type: ignore[union-attr]
        said = f"bash: {said}"
        folded = command.source.startswith(">")  # of which bash counts other lines
        last = command.text.rstrip().count("\n")  # bash may find out only after it
        if command.cut:  # a comment to YAML; in quotes it is none to bash
            said = f"YAML cuts the command off before {command.cut!r}; quote it for YAML, or write a block (|)"
        yield Finding(command.line + (0 if folded else min(int(number or 1) - 1, last)), f"{command.key}: {said}")


def secrets(text: str) -> Iterator[Finding]:
    """Tokens, keys and passwords in a file, which others will read."""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := SECRETS.search(line):
            yield Finding(number, f"a secret stands in the file ({found[0][:12]}...); keep it in a file of mode 0600")


def threads(commands: Iterable[Command]) -> Iterator[Finding]:
    """Commands that Ray runs by ssh, where each training would have one thread."""
    for command in commands:
        unset = command.text.find("unset OMP_NUM_THREADS")
        for found in re.finditer(r"\bray start\b|\bpsf-search run\b", command.text):
            if not 0 <= unset < found.start():
                yield Finding(command.line_of(found.start()), f"`{found[0]}` {REMOTE}")
                break


def stops(commands: Iterable[Command], whose: str) -> Iterator[Finding]:
    """`ray stop`, which ends every Ray of the user on a machine."""
    for command in commands:
        for found in re.finditer(r"\bray stop\b", without_comments(command.text)):
            yield Finding(command.line_of(found.start()), f"`ray stop` also ends {whose}")


MOUNTED = re.compile(
    r"\bmountpoint\s+(?:-q\s+)?['\"]?(/[\w./-]+)|\bmount\s[^;&|\n]*?\s['\"]?(/[\w./-]+)['\"]?(?=\s|$|;)"
)


def mounted(commands: Iterable[Command]) -> set[str]:
    """Directories that commands mount, or see to be mounted."""
    return {found[1] or found[2] for command in commands for found in MOUNTED.finditer(without_comments(command.text))}


def without_comments(text: str) -> str:
    """The same text with comments of whole lines blanked out."""
    return re.sub(r"^[ \t]*#[^\n]*|(?<=\s)# [^\n]*", lambda found: " " * len(found[0]), text, flags=re.MULTILINE)
