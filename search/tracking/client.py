"""The process that talks to one tracker: `python -m search.tracking.client NAME`, with messages on its standard input.

One JSON object a line: `search` first, then `begin`, `report` and `end` of trials and finalists, `finals`. For each it answers an
empty line; a line of text is for the person. When its input ends, so does it, after what is still open has been closed: of a search
that was killed, too.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from importlib import import_module
from typing import Any, Protocol, TextIO

from search.tracking.trackers import TRACKERS

logger = logging.getLogger(__name__)

USER = re.compile(r"(?<=//)[^/\s]+@")
"""Name and password in an address, which a library's message may have: they are not for a terminal and a run's log."""


class Backend(Protocol):
    """What a tracker is asked to do. `key` names a training: `trial-7`, `finalist-7-seed-0`."""

    def search(self, id: str, name: str, directory: str, config: dict[str, Any]) -> str | None:
        """A search begins, or one of this id goes on; where to look at it."""

    def begin(self, key: str, name: str, kind: str, params: dict[str, Any]) -> None:
        """A training begins, or one of this key goes on."""

    def report(self, key: str, step: int, metrics: dict[str, float]) -> None: ...

    def end(self, key: str, state: str, told: dict[str, Any]) -> None:
        """A training has ended; `state` is a trial's."""

    def finals(self, metrics: dict[str, float], told: dict[str, Any], files: list[str]) -> None:
        """The search has ended."""

    def close(self) -> None:
        """Trainings that have not ended were interrupted."""


def serve(backend: Backend, messages: TextIO, answers: TextIO) -> None:
    """Pass messages on until there are no more. One that fails is said, each kind of failure once, and the next ones are tried.

    A failure of the first one is the last.
    """
    failed: set[str] = set()
    search = os.getppid()

    def answer(text: str = "") -> None:
        print(USER.sub("", text), file=answers, flush=True)

    for line in messages:
        message = json.loads(line)
        what = message.pop("do")
        try:
            told = getattr(backend, what)(**message)
        except Exception as error:  # of a library, whatever it raises
            logger.exception("%s failed", what)
            why = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
            if what == "search":
                answer(f"warning: {why}; the search goes on without it")
                sys.exit(1)
            if os.getppid() != search:  # it is gone, and each message might take as long to fail
                return
            if type(error).__name__ not in failed:
                failed.add(type(error).__name__)
                answer(f"warning: {why}")
            continue
        if what == "search":
            if told:
                answer(told)
        else:
            answer()
    backend.close()


def main() -> None:
    """Libraries may print: what they print goes to the log, as standard output has the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    module, _, name = TRACKERS[sys.argv[1]].backend.partition(":")
    try:
        backend: Backend = getattr(import_module(module), name)()
    except Exception as error:  # an installation that is broken
        logger.exception("cannot be imported")
        print(f"warning: cannot be imported: {error}; the search goes on without it", file=answers, flush=True)
        sys.exit(1)
    serve(backend, sys.stdin, answers)


if __name__ == "__main__":
    main()
