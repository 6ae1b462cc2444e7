"""`asof rebuild`: online rows built again from history."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.counts import said_counts
from asof.cli.options import Command, misused


@click.command(cls=Command)
@click.argument("views", nargs=-1)
@click.option("--training-set", metavar="NAME", help="Build a saved training set again, and compare.")
@pass_context
def rebuild(context: CliContext, views: tuple[str, ...], training_set: str | None) -> None:
    """Build online rows again from history.

    Those of all views, or of VIEWS. Readers keep the old rows until the new ones have caught up.
    Exits with code 10 if a training set comes out differently.
    """
    if training_set:
        if views:
            raise misused("give either views or --training-set")
        with context.progress() as progress:
            comparison = context.store.rebuild_training_set(training_set, progress=progress)
        context.output.details("comparison", comparison.to_dict())
        if not comparison.equal:
            context.found_problems()
        return
    with context.progress() as progress:
        done = context.store.rebuild(list(views) or None, progress=progress)
    said_counts(context, "rebuilt", done, title="Rebuilt")
