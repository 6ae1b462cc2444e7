"""`asof explain`: which rows or events made a value."""

from __future__ import annotations

from datetime import datetime

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import MOMENT, SHOWN_ROWS, Command, key_option, key_types, read_key, shown_rows_option
from asof.display import counted

_ARRIVAL = ("partition", "offset", "ingested_at", "in_window", "from")
"""Columns that say where an event stands; on a narrow terminal the others matter more."""


@click.command(cls=Command)
@click.argument("reference", metavar="VIEW:FEATURE")
@key_option(multiple_rows=False)
@click.option("--at", type=MOMENT, help="As of this time. [default: now]")
@shown_rows_option
@pass_context
def explain(context: CliContext, reference: str, key: tuple[str, ...], at: datetime | None, limit: int | None) -> None:
    """Show which rows or events made a value.

    \b
    asof explain user_traffic:views_1d --key user_id=7
    """
    explained = context.store.explain(reference, read_key(key, key_types(context)), at=at)
    context.output.lines("explanation", explained.text.splitlines(), explained.text, wrap=True)
    limit = limit or (SHOWN_ROWS if context.output.form == "text" else explained.rows.num_rows)
    context.output.rows("rows", explained.rows.slice(0, limit), empty="There is no row or event of it.", spare=_ARRIVAL)
    if explained.rows.num_rows > limit:
        context.note(f"Shown: the first {limit} of {counted(explained.rows.num_rows, 'row')}; --limit shows more.")
    context.output.noted(value=explained.value)
