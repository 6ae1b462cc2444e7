"""`asof runs`: what was done to the store, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.tables import Column
from asof.defaults import RUNS
from asof.display import counted
from asof.registry.records import RUN_KINDS

if TYPE_CHECKING:
    from asof.flows.runs import Run

_NAMES = 3
"""So many views or sources of a run are named."""


@click.command(cls=Command)
@click.option(
    "--kind", type=click.Choice(RUN_KINDS), metavar="KIND", help=f"Only of this kind: {', '.join(RUN_KINDS)}."
)
@click.option("--limit", "-n", type=click.IntRange(min=1), default=RUNS, show_default=True, help="The newest so many.")
@pass_context
def runs(context: CliContext, kind: str | None, limit: int) -> None:
    """Show what ran on the store, and how it ended.

    The newest come first; of each kind the last hundred are kept. A run is `running` until it ends, and stays so where
    its process was killed. What was applied is in `asof history`.

    \b
    asof runs
    asof runs --kind stream -n 3 --output json
    """
    records = [
        {**each.to_dict(), "started": each.started.replace(microsecond=0), "about": _about(each) or None}
        for each in context.store.runs(kind, limit)
    ]
    columns = [
        Column("started"), Column("kind"), Column("outcome"), Column("rows"), Column("about", prose=True, null=""),
        Column("seconds", spare=True), Column("who", spare=True),
    ]  # fmt: skip
    context.output.records("runs", records, columns, empty="Nothing has run yet.")


def _about(run: Run) -> str:
    """The error of a run; else what it was about, with the dead letters that it made."""
    if run.error:
        return run.error
    names = [*run.sources, *run.views]
    shown = ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")
    return "; ".join(filter(None, [str(run.details.get("training_set", "")), shown, _dead_letters(run.sources)]))


def _dead_letters(sources: Mapping[str, Mapping[str, object]]) -> str:
    """The kinds of reasons of dead letters, the most frequent first."""
    kinds: dict[str, int] = {}
    for numbers in sources.values():
        found = numbers.get("dead_letters")
        for reason, number in found.items() if isinstance(found, Mapping) else ():
            kinds[reason] = kinds.get(reason, 0) + number
    if not kinds:
        return ""
    (most, number), *others = sorted(kinds.items(), key=lambda each: -each[1])
    more = f" and {sum(number for _, number in others)} for other reasons" if others else ""
    return f"{counted(number, 'dead letter')}: {most}{more}"
