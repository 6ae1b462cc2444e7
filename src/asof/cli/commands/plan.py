"""`asof plan`: what apply would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.exit_codes import CHANGES
from asof.cli.options import LOCAL_PATH, Command
from asof.errors import StorageError


@click.command(cls=Command)
@click.option("--exit-code", is_flag=True, help=f"Exit with code {CHANGES} if there is anything to apply.")
@click.option(
    "--markdown", type=LOCAL_PATH, metavar="FILE", help="Also write the plan there, as a comment for a pull request."
)
@pass_context
def plan(context: CliContext, exit_code: bool, markdown: str | None) -> None:
    """Show what `apply` would change, and what blocks it.

    Checks the definitions against the real sources. Changes nothing. Exits with code 10 if a finding
    blocks `apply`.
    """
    found = context.store.plan()
    show_plan(context, found)
    if markdown is not None:
        _write(Path(markdown), found)
    if found.errors:
        context.found_problems()
    if exit_code and not found.is_empty:
        raise click.exceptions.Exit(CHANGES)


def show_plan(context: CliContext, plan: Any) -> None:
    from asof import planning

    for note in context.store.config.notes:
        context.note(f"note: {note}")
    context.output.lines("plan", planning.describe(plan), plan.to_dict(), wrap=True)


def _write(file: Path, plan: Any) -> None:
    from asof.planning.markdown import as_markdown

    try:
        file.write_text(as_markdown(plan), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{str(file)!r}: {error.strerror}", hint="choose another file for --markdown") from error
