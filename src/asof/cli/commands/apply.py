"""`asof apply`: make the registry and the stores match the definitions."""

from __future__ import annotations

import click

from asof.cli.commands.plan import show_plan
from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.display import counted


@click.command(cls=Command)
@click.option("--yes", "-y", is_flag=True, help="Apply without asking.")
@pass_context
def apply(context: CliContext, yes: bool) -> None:
    """Make the registry and the stores match your definitions.

    Shows the plan and asks first. Never deletes an archive.
    """
    planned = context.store.plan()
    # With errors the store refuses and names them; there is nothing to show or to agree to.
    if not planned.errors:
        show_plan(context, planned)
        if planned.is_empty:
            # Rows may have been written to the batch sources of logs since.
            with context.progress() as progress:
                context.store.apply(planned, progress=progress)
            context.output.noted(applied=False)
            return
        context.ask("Apply this plan?", yes=yes)
    with context.progress() as progress:
        done = context.store.apply(planned, progress=progress)
    context.output.said(f"Applied {counted(done.definitions, 'change')}.", applied=True)
