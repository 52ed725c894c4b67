"""The `tune` command: Ray's own subcommands, and `analyze` beside them."""

from __future__ import annotations

import sys


def main() -> None:
    """`tune analyze` is ours and answers without importing Ray; every other subcommand is Ray's."""
    if sys.argv[1:2] == ["analyze"]:
        from search.cli import main as psf_search

        psf_search(sys.argv[1:])
        return
    import click
    from ray.tune.cli.scripts import cli

    # Only for `tune --help`: the call itself was taken care of above.
    cli.add_command(click.Command("analyze", help="What a search found: best trials, comparison, sensitivity."))
    cli()
