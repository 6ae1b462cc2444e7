"""`asof history`: who applied what, and when."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.tables import Column
from asof.defaults import HISTORY_COMMITS


@click.command(cls=Command)
@click.option(
    "--limit", "-n", default=HISTORY_COMMITS, show_default=True, type=click.IntRange(min=1), help="The newest so many."
)
@click.argument("version", type=click.IntRange(min=1), required=False)
@pass_context
def history(context: CliContext, version: int | None, limit: int) -> None:
    """Show who applied what, and when.

    Of one VERSION it shows all that it changed.
    """
    if version is not None:
        found = context.store.version_changes(version)
        heading = f"Version {version} by {found.who} at {found.when:%Y-%m-%d %H:%M:%S}"
        lines = [heading + (f": {found.note}" if found.note else ""), *found.lines]
        context.output.lines("version", lines, found.to_dict(), wrap=True)
        return
    commits = context.store.history(limit).to_dicts()
    columns = [
        Column("version"), Column("when"), Column("who"), Column("summary", prose=True),
        Column("note", prose=True, spare=True),
    ]  # fmt: skip
    context.output.records("history", commits, columns, empty="Nothing was applied yet: run `asof apply`.")
