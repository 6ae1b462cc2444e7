"""`asof demo`: the story of a small shop, from its events to its features."""

from __future__ import annotations

from pathlib import Path

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import LOCAL_PATH, Command, misused
from asof.defaults import DEMO_SEED, DEMO_TICKS, DEMO_USERS


@click.command(cls=Command)
@click.option(
    "--output", type=LOCAL_PATH, default="demo-output", show_default=True, metavar="FOLDER", help="Where it writes."
)
@click.option(
    "--users", default=DEMO_USERS, show_default=True, type=click.IntRange(min=1), help="How many users it has."
)
@click.option("--ticks", default=DEMO_TICKS, show_default=True, type=click.IntRange(min=1), help="How many minutes.")
@click.option("--seed", default=DEMO_SEED, show_default=True, help="The same seed tells the same story.")
@click.option("--postgres", metavar="URL", help="Keep users, orders and the registry in this PostgreSQL database.")
@click.option("--kafka", metavar="HOST:PORT", help="Stream the traffic through this broker.")
@click.option("--redis", metavar="HOST:PORT", help="Serve from this Redis; or redis://user:password@host:port.")
@click.option(
    "--offline",
    default="duckdb",
    show_default=True,
    type=click.Choice(["duckdb", "postgres"]),
    help="With servers: where history is joined.",
)
@click.option(
    "--format",
    "message_format",
    default="json",
    show_default=True,
    type=click.Choice(["json", "avro"]),
    help="With servers: how messages are written.",
)
@click.option(
    "--project",
    default="asof_demo",
    show_default=True,
    metavar="NAME",
    help="With servers: the name of all it makes.",
)
@click.option("--yes", "-y", is_flag=True, help="Write into a folder that holds other things, without asking.")
@pass_context
def demo(
    context: CliContext,
    output: str,
    users: int,
    ticks: int,
    seed: int,
    yes: bool,
    postgres: str | None,
    kafka: str | None,
    redis: str | None,
    offline: str,
    message_format: str,
    project: str,
) -> None:
    """Simulate a shop, and make its features.

    Tells the story step by step. Takes a few seconds, and needs nothing but this package. With --postgres, --kafka and
    --redis it plays on those servers; there it makes (and, when it runs again, removes) a schema, a topic and online
    rows of its own.
    """
    from asof.demo import story

    addresses = {"--postgres": postgres, "--kafka": kafka, "--redis": redis}
    servers = None
    if postgres and kafka and redis:
        from asof.demo.stage import DemoServers

        servers = DemoServers(postgres, kafka, redis, offline, message_format, project)
    elif any(addresses.values()):
        raise misused(f"servers go together: also give {' and '.join(n for n, each in addresses.items() if not each)}")

    target = Path(output)
    # What the demo wrote before is its own; anything else in the folder is not.
    is_foreign = target.is_dir() and any(target.iterdir()) and not (target / "repo" / "feature_store.yaml").exists()
    if is_foreign:
        context.ask(f"{target} is not empty, and not an earlier demo. Write into it?", yes=yes)
    # The story is the result for people; for programs the report is.
    say = click.echo if context.output.form == "text" else context.note
    with context.progress() as progress:
        report = story.run(target, users=users, ticks=ticks, seed=seed, servers=servers, progress=progress, say=say)
    context.output.noted(**report)
