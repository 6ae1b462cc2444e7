"""`asof demo`: the story of a small shop, from its events to its features."""

from __future__ import annotations

from pathlib import Path

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


@click.command(cls=Command)
@click.option("--output", default="demo-output", show_default=True, metavar="FOLDER", help="Where it writes.")
@click.option("--users", default=1000, show_default=True, type=click.IntRange(min=1), help="How many users it has.")
@click.option("--ticks", default=50_000, show_default=True, type=click.IntRange(min=1), help="How many minutes.")
@click.option("--seed", default=7, show_default=True, help="The same seed tells the same story.")
@click.option("--yes", "-y", is_flag=True, help="Write into a folder that holds other things, without asking.")
@pass_context
def demo(context: CliContext, output: str, users: int, ticks: int, seed: int, yes: bool) -> None:
    """Simulate a shop, and make its features.

    Tells the story step by step. Takes a few seconds, and needs nothing but this package.
    """
    from asof.demo import story

    target = Path(output)
    # What the demo wrote before is its own; anything else in the folder is not.
    is_foreign = target.is_dir() and any(target.iterdir()) and not (target / "repo" / "feature_store.yaml").exists()
    if is_foreign:
        context.ask(f"{target} is not empty, and not an earlier demo. Write into it?", yes=yes)
    # The story is the result for people; for programs the report is.
    say = click.echo if context.output.form == "text" else context.note
    with context.progress() as progress:
        report = story.run(target, users=users, ticks=ticks, seed=seed, progress=progress, say=say)
    context.output.noted(**report)
