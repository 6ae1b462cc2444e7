"""`asof plan | apply | history | teardown`: what is defined, and making it so."""

from __future__ import annotations

from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.tables import Column
from asof.defaults import HISTORY_COMMITS


@click.command(cls=Command)
@pass_context
def plan(context: CliContext) -> None:
    """Show what `apply` would change, and what stands in its way.

    Checks the definitions against the real sources. Changes nothing. Leaves with code 10 where a finding would keep
    `apply` from running.
    """
    found = context.store.plan()
    _show(context, found)
    if found.errors:
        context.found_problems()


@click.command(cls=Command)
@click.option("--yes", "-y", is_flag=True, help="Apply without asking.")
@pass_context
def apply(context: CliContext, yes: bool) -> None:
    """Make the registry and the stores match your definitions.

    Shows the plan and asks first. Never deletes an archive.
    """
    planned = context.store.plan()
    # Where errors stand in the way the store refuses and names them; there is nothing to show or to agree to.
    if not planned.errors:
        _show(context, planned)
        if planned.is_empty:
            context.output.noted(applied=False)
            return
        context.ask("Apply this plan?", yes=yes)
    with context.progress() as progress:
        done = context.store.apply(planned, progress=progress)
    count = len(done.changes)
    context.output.said(f"Applied {count} change{'s' if count != 1 else ''}.", applied=True)


@click.command(cls=Command)
@click.option(
    "--limit", "-n", default=HISTORY_COMMITS, show_default=True, type=click.IntRange(min=1), help="The newest so many."
)
@pass_context
def history(context: CliContext, limit: int) -> None:
    """Show who applied what, and when."""
    commits = context.store.history(limit).to_dicts()
    columns = [
        Column("version"), Column("when"), Column("who"), Column("summary", prose=True),
        Column("note", prose=True, spare=True),
    ]  # fmt: skip
    context.output.records("history", commits, columns, empty="Nothing was applied yet: run `asof apply`.")


@click.command(cls=Command)
@click.option("--purge", is_flag=True, help="Also delete the archives and the logs: all history.")
@click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
@pass_context
def teardown(context: CliContext, purge: bool, yes: bool) -> None:
    """Remove what was applied.

    The online rows and the registry's versions go. Archives stay, unless --purge is given.
    """
    project = context.store.project
    what = "registry and online rows" + (", AND ALL ARCHIVES AND LOGS" if purge else "; archives stay")
    context.ask(f"Tear down project {project!r}: {what}. Go on?", yes=yes)
    for left in context.store.teardown(purge=purge) or ():
        context.note(f"note: {left}")
    context.output.said(f"Project {project!r} is torn down.", project=project, purged=purge)


def _show(context: CliContext, plan: Any) -> None:
    from asof import planning

    for note in context.store.config.notes:
        context.note(f"note: {note}")
    context.output.lines("plan", planning.describe(plan), plan.to_dict(), wrap=True)
