"""The search that a launch file starts: its options, its space, whether the nodes can hold it, and where it keeps what it makes."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import typer.main
from typer.exceptions import TyperException

from search.clusters.launch_file import PLACEHOLDER, Command, Finding, Node, Result, Unchecked
from search.clusters.shell import without_comments
from search.plan import Job, fit_cluster
from search.storage.bucket import is_url
from spaces.errors import SpaceError

SEARCH = re.compile(r"\bpsf-search run\b|search/run\.py\b")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Search:
    """A `psf-search run` of a launch file, from a character of a command on, and its options by their parameters' names."""

    command: Command
    start: int
    options: Mapping[str, Any]

    def finding(self, message: str) -> Finding:
        """On the line of the option that the message names first, or where the search begins."""
        at = self.start
        if named := re.search(r"(--[\w-]+)(?: ([^\s:;,]+))?", message):
            for words in (f"{named[1]} {named[2]}", named[1]):
                if (found := self.command.text.find(words, self.start)) >= 0:
                    at = found
                    break
        return Finding(self.command.line_of(at), message)


def check(
    commands: Iterable[Command],
    nodes: Sequence[Node],
    shared: Sequence[str] | None,
    variables: Mapping[str, str] | None = None,
    *,
    again: str | None = None,
) -> Iterator[Result]:
    """Mistakes in the searches that commands start.

    Args:
        shared: directories on storage that all nodes share. None: not known; those that no nodes share are refused.
        variables: of the file's environment, that options are given with.
        again: what starts the command again after an interruption, if anything does.
    """
    found = False
    for command in commands:
        text = without_comments(command.text)
        for started in SEARCH.finditer(text):
            search = Search(command, started.start(), {})
            try:
                arguments = _arguments(text[started.end() :], variables or {})
                if "--help" in arguments:  # which starts nothing
                    continue
                found, options = True, _options(arguments)
            except SpaceError as error:
                found = True
                yield search.finding(f"psf-search run: {error}")
                continue
            search = replace(search, options=options)
            yield from _places(search, shared)
            yield from _starts(search, again)
            yield from _shape(search, nodes)
    if not found:
        yield Unchecked("the search: no `psf-search run` stands in the file")


def _arguments(text: str, variables: Mapping[str, str]) -> list[str]:
    """The words of a command, as the shell has them, up to its end.

    Raises:
        SpaceError: a quote has no end.
    """
    words = shlex.shlex(re.sub(r"\\\n", " ", text).partition("\n")[0], posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, ""
    arguments: list[str] = []
    try:
        for word in words:
            if re.fullmatch(r"[();<>|&]+", word):
                break
            if word not in ("$@", "$*"):
                arguments.append(expand(word, variables))
    except ValueError as error:
        raise SpaceError(str(error)) from None
    return arguments


def _options(arguments: list[str]) -> Mapping[str, Any]:
    """Read the options as the command line does.

    Raises:
        SpaceError: they are not valid.
    """
    from search.cli import app  # which has the command of this package

    try:
        command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
        params: Mapping[str, Any] = command.make_context("psf-search run", arguments).params
    except TyperException as error:
        raise SpaceError(error.format_message()) from None
    return params


def expand(text: str, variables: Mapping[str, str]) -> str:
    """A word of shell with the variables that are known."""
    return VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), text)


def assignments(text: str) -> dict[str, str]:
    """Variables that a script sets to a plain value."""
    found = re.finditer(
        r"(?:^|\s)([A-Za-z_]\w*)=(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s\"';&|()]*))", without_comments(text)
    )
    return {name[1]: name[2] or name[3] or name[4] or "" for name in found}


NODES_OWN = ("/tmp", "/var/tmp", "/dev/shm", "/local", "/scratch/local")


def _places(search: Search, shared: Sequence[str] | None) -> Iterator[Finding]:
    for option in ("out", "cache"):
        if is_url(search.options[option]):
            yield search.finding(
                f"--{option} {search.options[option]}: goes with a search on one machine, without --address"
            )
            continue
        place = PurePosixPath(search.options[option])
        named = f"--{option} {place}"
        where = (
            f"name a directory of the shared storage ({', '.join(shared)})"
            if shared
            else "name a directory that all nodes share"
        )
        if PLACEHOLDER.search(str(place)) or re.match(r"\$(?!HOME|SLURM_SUBMIT_DIR)", str(place)):
            continue  # still to be filled in, or whatever the environment says
        if not place.is_absolute() and not str(place).startswith(("~", "$")):
            yield search.finding(f"{named}: is below a directory of this node alone; {where}")
        elif shared is not None and not any(place.is_relative_to(one) for one in shared):
            yield search.finding(f"{named}: is not on storage that all nodes share; {where}")
        elif shared is None and any(place.is_relative_to(one) for one in NODES_OWN):
            yield search.finding(f"{named}: is each node's own; {where}")


def _starts(search: Search, again: str | None) -> Iterator[Finding]:
    options = search.options
    if options["address"] is None:
        yield search.finding("--address: missing; the search would start a Ray of its own on this node")
    if again is not None and not (options["resume_or_start"] or options["resume"]):
        yield search.finding(
            f"{again} starts the command again, which finds its name taken: add --resume-or-start --name NAME",
        )
    if options["resume_or_start"] and options["name"] is None:
        yield search.finding("--resume-or-start: needs --name")


def _shape(search: Search, nodes: Sequence[Node]) -> Iterator[Result]:
    if search.options["resume"] is not None:
        yield Unchecked("the search's shape: its run is known where it goes on")
        return
    try:
        job = _planned(search.options)
    except SpaceError as error:
        yield search.finding(str(error))
        return
    if not nodes or any(node.cpus is None or node.gpus is None for node in nodes):
        yield Unchecked("the search's shape: the file does not say how many CPUs and GPUs the nodes have")
        return
    cpus, gpus = (sum(node.count * (getattr(node, kind) or 0) for node in nodes) for kind in ("cpus", "gpus"))
    need = job.study.resources
    each = need.cpus_per_worker or 1
    fits = [node for node in nodes if (node.cpus or 0) >= each and (node.gpus or 0) >= need.gpus_per_worker]
    if not fits:
        have = ", ".join(f"{node.name} {node.cpus:g} CPUs and {node.gpus or 0:g} GPUs" for node in nodes)
        yield search.finding(
            f"resources: a worker needs {each} CPUs and {need.gpus_per_worker:g} GPUs of one node, and no node has them: {have}",
        )
        return
    try:
        fit_cluster(job.study, job.budget.trials, cpus, gpus)
    except SpaceError as error:
        yield search.finding(str(error))
    if gpus and not need.gpus_per_worker:
        yield search.finding(
            f"the nodes have {gpus:g} GPUs that the search does not use: --set resources.gpus_per_worker=0.25",
        )


def _planned(options: Mapping[str, Any]) -> Job:
    from search.api import as_settings, plan_search

    given = {key: options[key.removeprefix("data.")] for key in ("data.lens", "seed", "sampler", "scheduler")}
    with tempfile.TemporaryDirectory() as nowhere:  # whatever runs are here
        return plan_search(
            options["space"],
            preset=options["preset"],
            overrides=[
                *(options["overrides"] or []),
                *as_settings({key: one for key, one in given.items() if one is not None}),
            ],
            limits={key: options[key] for key in ("trials", "max_hours", "target")},
            out=Path(nowhere),
        )
