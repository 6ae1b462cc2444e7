"""`asof backfill`: the years before a stream."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.counts import said_counts
from asof.cli.options import Command


@click.command(cls=Command)
@click.argument("source")
@pass_context
def backfill(context: CliContext, source: str) -> None:
    """Load the years before a stream, once.

    They come from the batch source of the log source SOURCE: its rows before `stream_from`."""
    with context.progress() as progress:
        done = context.store.backfill(source, progress=progress)
    said_counts(context, "backfilled", done, title=f"Backfilled {source}")
