"""`asof backfill`: history out of a log's batch source."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.counts import said_counts
from asof.cli.options import Command


@click.command(cls=Command)
@click.argument("source")
@pass_context
def backfill(context: CliContext, source: str) -> None:
    """Load what an archive lacks of its batch source, each row once.

    SOURCE is a log or push source; of its batch source, rows before `stream_from` count. `apply` and `materialize` do
    the same. Can be stopped at any time; the next run goes on from there.
    """
    with context.progress() as progress:
        done = context.store.backfill(source, progress=progress)
    said_counts(context, "backfilled", done, title=f"Backfilled {source}")
