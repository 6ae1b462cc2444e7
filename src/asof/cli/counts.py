"""What was done, as counts: the result of commands that change rows."""

from __future__ import annotations

from typing import Any

from asof.cli.context import CliContext
from asof.display import counted


def said_counts(context: CliContext, name: str, counts: Any, *, title: str) -> None:
    """Say what was done with its counts: one number of rows, or several by name."""
    if isinstance(counts, int):
        context.output.said(f"{title}: {counted(counts, 'row')}.", **{name: counts})
    else:
        context.output.details(name, counts, title=title)
