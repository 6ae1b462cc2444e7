"""`asof plan`: what apply would change."""

from __future__ import annotations

from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


@click.command(cls=Command)
@pass_context
def plan(context: CliContext) -> None:
    """Show what `apply` would change, and what blocks it.

    Checks the definitions against the real sources. Changes nothing. Exits with code 10 if a finding
    blocks `apply`.
    """
    found = context.store.plan()
    show_plan(context, found)
    if found.errors:
        context.found_problems()


def show_plan(context: CliContext, plan: Any) -> None:
    from asof import planning

    for note in context.store.config.notes:
        context.note(f"note: {note}")
    context.output.lines("plan", planning.describe(plan), plan.to_dict(), wrap=True)
