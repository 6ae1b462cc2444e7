"""`asof doctor`: every part of the store, checked."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.tables import Column


@click.command(cls=Command)
@pass_context
def doctor(context: CliContext) -> None:
    """Check every part of the store, one line each.

    Also who may use its server, and until when. Leaves with code 10 where a part is not well.
    """
    from asof.opening.clock import system_clock
    from asof.server.security.checks import security_checks

    checks = [*context.store.doctor(), *security_checks(context.store.config, now=system_clock())]
    content = [{"part": check.part, "ok": check.ok, "text": check.text, "hint": check.hint} for check in checks]
    records = [
        {"": "ok" if check.ok else "BAD", "part": check.part,
         "text": f"{check.text}; next: {check.hint}" if check.hint and not check.ok else check.text}
        for check in checks
    ]  # fmt: skip
    shown = content if context.output.form == "json" else records
    context.output.records("checks", shown, [Column(""), Column("part"), Column("text", prose=True)], empty="No parts.")
    if not all(check.ok for check in checks):
        context.found_problems()
