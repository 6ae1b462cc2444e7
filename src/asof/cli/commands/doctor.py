"""`asof doctor`: every part of the store, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.output import width
from asof.cli.tables import padded, wrapped
from asof.cli.values import one_line
from asof.display import cells_of, clipped

if TYPE_CHECKING:
    from asof.flows.admin.doctor import Check


@click.command(cls=Command)
@click.option(
    "--rows/--no-rows", default=True, show_default=True,
    help="Count the rows of batch sources, for which text files are read as a whole.",
)  # fmt: skip
@pass_context
def doctor(context: CliContext, rows: bool) -> None:
    """Check every part of the store, one line each.

    Also who may use its server, and until when. Exits with code 10 if a check fails.
    """
    from asof.opening.clock import system_clock
    from asof.server.security.checks import security_checks

    config = context.store.config
    checks = [*context.store.doctor(rows=rows), *security_checks(config, now=system_clock())]
    content = [{"part": check.part, "ok": check.ok, "text": check.text, "hint": check.hint} for check in checks]
    context.output.lines("checks", _lines(checks, f"{config.path}/", width()), content)
    if not all(check.ok for check in checks):
        context.found_problems()


def _lines(checks: Sequence[Check], folder: str, cells: int) -> list[str]:
    """A line for each part; one that is not well has all its text, and its next step below.

    Args:
        folder: the repository's: paths in it are shown relative to it.
    """
    left = max((cells_of(check.part) for check in checks), default=0)
    lines, is_clipped = [], False
    for check in checks:
        line = f"{'ok ' if check.ok else 'BAD'}  {padded(check.part, left)}  {one_line(check.text.replace(folder, ''))}"
        if check.ok:
            lines.append(clipped(line, cells))
            is_clipped |= lines[-1] != line
        else:
            lines += wrapped(line, width=cells)
            lines += wrapped(f"     next: {check.hint}", width=cells) if check.hint else []
    return [*lines, "…: --output json has the whole text."] if is_clipped else lines
