"""`psf-search cluster`: launch files for clusters, and their mistakes before any machine is paid for."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from spaces.errors import SpaceError, nearest

app = typer.Typer(help="Launch files for clusters (docs/clusters.md).", no_args_is_help=True)
SHIPPED = (
    "local.yaml", "aws.yaml", "gcp.yaml", "azure.yaml", "raycluster.yaml", "rayjob.yaml", "sky.yaml", "slurm.sbatch",
)  # fmt: skip


@app.command()
def init(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="local, aws, gcp, azure, raycluster, rayjob, sky or slurm."),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; default: the file's own name, here.")] = None,
    fill: Annotated[
        list[str] | None, typer.Option("--fill", metavar="KEY=VALUE", help="Fill in <KEY>; what is left, check names.")
    ] = None,
) -> None:
    """Copy a launch file, to be filled in."""
    names = {Path(file).stem: file for file in SHIPPED}
    if name not in names:
        raise SpaceError(f"{name}: no such launch file; {nearest(name, list(names))}")
    target = out or Path(names[name])
    if target.exists():
        raise SpaceError(f"--out {target}: is there already")
    text = files("search.clusters").joinpath(names[name]).read_text()
    for one in fill or ():
        key, equals, value = one.partition("=")
        if not equals or f"<{key}>" not in text:
            from search.clusters.launch_file import LaunchFile

            left = [found.message.split()[-1].strip("<>") for found in LaunchFile(target, text).placeholders()]
            raise SpaceError(f"--fill {one}: expected KEY=VALUE; {nearest(key, left)}")
        text = text.replace(f"<{key}>", value)
    try:
        target.write_text(text)
    except OSError as error:
        raise SpaceError(f"--out {target}: {error.strerror}") from None
    Console(markup=False).print(f"{target}: now fill it in, and run psf-search cluster check {target}", highlight=False)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="Launch file of ray up, KubeRay, SkyPilot or Slurm.")]) -> None:
    """Say what is wrong with a launch file, line by line. Nothing is started, and nobody is asked but a Slurm that is here."""
    from search.clusters.check import check as check_file  # which takes a second to load

    report, console = check_file(file), Console(markup=False)
    for finding in report.findings:
        console.print(f"{file}:{finding.line}: {finding.message}", highlight=False, soft_wrap=True)
    for message in report.unchecked:
        console.print(f"not checked: {message}", highlight=False, soft_wrap=True)
    found = len(report.findings)
    says = f"{found} line{'s' * (found != 1)} to mend" if found else "nothing is wrong"
    console.print(f"{file}: {report.kind}, {says}", highlight=False, soft_wrap=True)
    sys.exit(2 if found else 0)
