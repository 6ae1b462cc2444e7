"""`asof dead-letters list | show | replay`: messages that could not be used."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Group
from asof.cli.tables import Column
from asof.defaults import DEAD_LETTERS


@click.group(cls=Group)
def dead_letters() -> None:
    """See messages that could not be used: `list`, `show`, `replay`."""


@dead_letters.command("list")
@click.argument("source", required=False)
@click.option(
    "--limit", "-n", default=DEAD_LETTERS, show_default=True, type=click.IntRange(min=1), help="At most so many."
)
@pass_context
def list_dead_letters(context: CliContext, source: str | None, limit: int) -> None:
    """List dead letters, of all sources or of SOURCE."""
    dead_letters = context.store.dead_letters(source, limit)
    columns = [
        Column("id"), Column("at"), Column("size", spare=True), Column("replayed", spare=True),
        Column("reason", prose=True),
    ]  # fmt: skip
    context.output.records("dead_letters", dead_letters.to_dicts(), columns, empty="No dead letters.")


@dead_letters.command("show")
@click.argument("id")
@pass_context
def show_dead_letter(context: CliContext, id: str) -> None:  # the name users know it by
    """Show one dead letter with its raw bytes.

    With --output json they are base64."""
    context.output.details("dead_letter", context.store.dead_letter(id).to_dict())


@dead_letters.command("replay")
@click.argument("source")
@click.argument("ids", nargs=-1)
@pass_context
def replay_dead_letters(context: CliContext, source: str, ids: tuple[str, ...]) -> None:
    """Try the dead letters of SOURCE again: all, or those of IDS.

    Each is accepted at most once, in its original place.
    """
    done = context.store.replay_dead_letters(source, list(ids) or None)
    context.output.details("replayed", done.to_dict(), title=f"Replayed dead letters of {source}")
