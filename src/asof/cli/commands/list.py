"""`asof list`: what is applied."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.kinds import DEFINED, DESCRIPTION, kind_named, show_list
from asof.cli.options import Command
from asof.cli.tables import Column


@click.command("list", cls=Command)
@click.argument("kind", required=False, metavar="[KIND]")
@pass_context
def list_objects(context: CliContext, kind: str | None) -> None:
    """List what is applied.

    All of it, or one KIND: entities, sources, views, on-demand-views, services, features, training-sets.
    """
    if kind is not None:
        show_list(context, kind_named(kind))
        return
    records = [
        {"kind": each.one, "name": thing.name, "description": thing.description or None}
        for each in DEFINED
        for thing in each.all_of(context.store)
    ]
    columns = (Column("kind"), Column("name"), DESCRIPTION)
    context.output.records("objects", records, columns, empty="Nothing is applied yet: run `asof apply`.")
