"""`asof materialize`: the online store brought up to date from batch sources."""

from __future__ import annotations

from datetime import datetime

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import MOMENT, Command
from asof.cli.tables import Column
from asof.display import counted


@click.command(cls=Command)
@click.argument("views", nargs=-1)
@click.option("--start", type=MOMENT, help="From this event time on. [default: where the last run ended]")
@click.option("--end", type=MOMENT, help="Before this time. [default: now]")
@click.option("--full", is_flag=True, help="Read everything again, and remove keys that the source no longer has.")
@pass_context
def materialize(
    context: CliContext, views: tuple[str, ...], start: datetime | None, end: datetime | None, full: bool
) -> None:
    """Bring the online store up to date from batch sources.

    All views, or VIEWS. Can be stopped at any time; the next run goes on from there.
    """
    with context.progress() as progress:
        done = context.store.materialize(start, end, feature_views=list(views) or None, full=full, progress=progress)
    columns = [Column("view"), Column("rows"), Column("seconds"), Column("until")]
    for each in done:
        if each.expired:
            rows = counted(each.rows, "row")
            context.note(f"{each.view}: {each.expired:,} of {rows} are older than its ttl; reads return null for them")
        if each.undated:
            rows = counted(each.undated, "row")
            context.note(f"{each.view}: {rows} of its source left out: no event time of the years 1 to 9999")
        elif each.undated is None:
            context.note(f"{each.view}: rows without an event time were left out; to count them would take too long")
    context.output.records(
        "materialized", done.to_dicts(), columns, empty="No view has a batch source: nothing to materialize."
    )
