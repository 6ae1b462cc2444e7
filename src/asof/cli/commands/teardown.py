"""`asof teardown`: remove what was applied."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


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
