"""`asof restore`: a project out of a backup."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


@click.command(cls=Command)
@click.argument("source")
@click.option("--replace", is_flag=True, help="Drop what the project has: registry, archives, training sets.")
@click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
@pass_context
def restore(context: CliContext, source: str, replace: bool, yes: bool) -> None:
    """Bring a project back from a backup.

    SOURCE is what `asof backup` wrote; the stores are those of this configuration, of any product. Each file is
    compared with its hash before anything is changed. One that broke off begins again at the next run. Stop workers
    and servers before.

    \b
    asof restore /backups/monday
    """
    if replace:
        context.ask(f"Replace what project {context.store.project!r} has by {source}?", yes=yes)
    with context.progress() as progress:
        done = context.store.restore(source, replace=replace, progress=progress)
    shown = done.to_dict()
    if context.output.form == "text":
        del shown["next_steps"]
    context.output.details("restored", shown, title="Restored")
    for number, step in enumerate(done.next_steps, start=1):
        context.note(f"next, {number}: {step}")
