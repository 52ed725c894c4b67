"""What a system says of a model of its own on the model's card."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """Markdown, without headings.

    Args:
        title: what it is a model of.
        intro: what it gives, and what it was trained on; whole sentences.
        usage: lines of Python, after `model = load_model(...)`.
        test: what the test set is; a whole sentence.
        units: of what goes in and comes out, a line each.
        remark: about the test's metrics.
        limits: what it does not do, a line each.
    """

    title: str
    intro: str
    usage: tuple[str, ...]
    test: str
    units: tuple[str, ...] = ()
    remark: str = ""
    limits: tuple[str, ...] = ()
