"""`asof backup`: what cannot be computed again, written to one place."""

from __future__ import annotations

from typing import Literal

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.display import counted


@click.command(cls=Command)
@click.argument("target")
@click.option(
    "--archives", type=click.Choice(["copy", "refer"]), default="copy", show_default=True,
    help="Copy their rows, or only note their offsets, where they are kept safe otherwise.",
)  # fmt: skip
@pass_context
def backup(context: CliContext, target: str, archives: Literal["copy", "refer"]) -> None:
    """Back up registry, archives and training sets.

    TARGET is a new folder, or an address such as s3://bucket/backups/monday. Workers and servers may go on. Online
    rows are not in it: they are built from the archives. Logs, and the files and tables of sources, are referred to.

    \b
    asof backup /backups/monday
    """
    with context.progress() as progress:
        done = context.store.backup(target, archives=archives, progress=progress)
    shown = done.to_dict()
    if context.output.form == "text":
        for note in done.notes:
            context.note(f"note: not in the backup: {note}")
        for source, count in done.unarchived.items():
            context.note(f"note: {source}: its log alone has {counted(count, 'message')}")
        del shown["notes"], shown["unarchived"]
    context.output.details("backup", shown, title="Backed up")
