"""What is known of a launch file before anything is started: each mistake with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from search.clusters import kuberay, ray_up, shell, sky, slurm
from search.clusters.launch_file import Document, Finding, LaunchFile, Result, Unchecked
from spaces.errors import SpaceError

KINDS: dict[str, tuple[Callable[[Document], bool], Callable[[LaunchFile], Iterator[Result]]]] = {
    "ray up": (ray_up.is_one, ray_up.check),
    "KubeRay": (kuberay.is_one, kuberay.check),
    "SkyPilot": (sky.is_one, sky.check),
}


@dataclass(frozen=True)
class Report:
    """What a check found: the kind of the file, its mistakes in the order of their lines, and what it could not check."""

    kind: str
    findings: list[Finding]
    unchecked: list[str]


def check(path: Path) -> Report:
    """Check a launch file offline.

    Raises:
        SpaceError: it cannot be read, is not YAML, or is none of the known kinds.
    """
    file = LaunchFile.read(path)
    if slurm.is_one(file):
        kind, results = "Slurm", list(slurm.check(file))
    else:
        kind, results = _yaml(file)
    results += [*file.placeholders(), *shell.secrets(file.text)]
    if shell.BASH is None:
        results.append(Unchecked("the syntax of commands: there is no bash here"))
    findings = sorted({one for one in results if isinstance(one, Finding)})
    return Report(kind, findings, list(dict.fromkeys(one.message for one in results if isinstance(one, Unchecked))))


def _yaml(file: LaunchFile) -> tuple[str, list[Result]]:
    for kind, (is_one, checked) in KINDS.items():
        if file.documents and all(is_one(document) for document in file.documents):
            return kind, list(checked(file))
    raise SpaceError(f"{file.path}: is none of {', '.join(KINDS)} and no batch script of Slurm (#!, #SBATCH)")
