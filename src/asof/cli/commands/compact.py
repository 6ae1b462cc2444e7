"""`asof compact`: archives in few, sorted files."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


@click.command(cls=Command)
@pass_context
def compact(context: CliContext) -> None:
    """Join small files of the archives, sorted by key and event time.

    May run while streams go on, and be stopped at any time. Also deletes files that no reader needs any more."""
    with context.progress() as progress:
        done = context.store.compact(progress=progress)
    context.output.details("compacted", done.to_dict(), title="Compacted")
