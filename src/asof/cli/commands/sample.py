"""`asof sample`: some rows of a feature view or service."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.defaults import SAMPLE_ROWS, SEED


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--limit",
    "-n",
    default=SAMPLE_ROWS,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many rows or entities.",
)
@click.option("--seed", default=SEED, show_default=True, help="The same seed takes the same sample.")
@click.option(
    "--by", type=click.Choice(["rows", "entities"]), default="rows", show_default=True,
    help="Draw rows, or entities: of one seed the same ones out of every view.",
)  # fmt: skip
@click.option("--online", is_flag=True, help="From the online store instead of history.")
@pass_context
def sample(context: CliContext, name: str, limit: int, seed: int, by: str, online: bool) -> None:
    """Show some rows of a feature view or service."""
    with context.progress() as progress:
        found = context.store.sample(name, n=limit, seed=seed, by=by, online=online, progress=progress)
    context.output.rows("rows", found.to_arrow())
