"""`asof compact`: archives with fewer, larger files."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


@click.command(cls=Command)
@pass_context
def compact(context: CliContext) -> None:
    """Put the archives' small files together.

    Also deletes files that no reader and no saved training set needs any more."""
    context.output.details("compacted", context.store.compact().to_dict(), title="Compacted")
