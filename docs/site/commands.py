"""The command line as a page, from its own parser."""

from __future__ import annotations

from typing import Any

import typer

from search.cli import app

NAME = "psf-search"


def commands() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    with root.make_context(NAME, [], resilient_parsing=True) as context:
        return "\n\n".join(_sections(root, context, NAME))


def _sections(command: Any, context: Any, name: str) -> list[str]:
    group = getattr(command, "commands", {})
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    text = (command.help or "").replace("\b", "")
    parts = [] if group and name == NAME else [f"## {name}\n\n{text}\n\n```\n{usage}\n```"]
    table = [_row(one, context) for one in command.get_params(context) if not getattr(one, "hidden", False)]
    rows = [row for row in table if row is not None]
    if rows:
        parts.append("\n".join(["| option | does |", "|---|---|", *rows]))
    for child in group.values():
        parts += _sections(child, typer.Context(child, parent=context, info_name=child.name), f"{name} {child.name}")
    return parts


def _row(parameter: Any, context: Any) -> str | None:
    if (record := parameter.get_help_record(context)) is None or "--help" in record[0]:
        return None
    option, what = (_literal(part) for part in record)
    return f"| <code>{option}</code> | {what.replace('  ', ' ')} |"


def _literal(text: str) -> str:
    """Text in a cell that is not Markdown, as what it means there is not meant."""
    return "".join(f"&#{ord(one)};" if one in "|[]_*`<>&" else one for one in text)
