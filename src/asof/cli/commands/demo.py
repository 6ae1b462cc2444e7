"""`asof demo`: the story of a small shop, from its events to its features."""

from __future__ import annotations

from pathlib import Path

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import LOCAL_PATH, Command, ObjectPrefix, misused
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
    "--storage",
    type=ObjectPrefix(),
    metavar="ADDRESS",
    help="Keep users, orders, the registry, archives and training sets in a bucket, such as s3://bucket/demo.",
)
@click.option("--storage-endpoint", metavar="URL", help="The bucket's server, if it is not the provider's own.")
@click.option(
    "--offline",
    default="duckdb",
    show_default=True,
    type=click.Choice(["duckdb", "postgres", "spark"]),
    help="With servers: where history is joined; spark needs --storage.",
)
@click.option("--spark", metavar="URL", help="With --offline spark: its Spark Connect server, such as sc://host:15002.")
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
    storage: str | None,
    storage_endpoint: str | None,
    offline: str,
    spark: str | None,
    message_format: str,
    project: str,
) -> None:
    """Simulate a shop, and make its features.

    Tells the story step by step. Takes a few seconds, and needs nothing but this package. With --postgres, --kafka and
    --redis it plays on those servers; there it makes (and, when it runs again, removes) a schema, a topic and online
    rows of its own. With --storage, alone or with --kafka and --redis, a bucket takes the place of the database: what
    it makes there is below that address, and keys come from the environment (AWS_ACCESS_KEY_ID and the like).
    """
    from asof.demo import story

    addresses = {"--postgres": postgres, "--kafka": kafka, "--redis": redis}
    if storage:
        if postgres or offline == "postgres":
            raise misused("with --storage nothing is in PostgreSQL: leave out --postgres and --offline postgres")
        del addresses["--postgres"]
    elif storage_endpoint:
        raise misused("--storage-endpoint is the server of a bucket: also give --storage")
    if (offline == "spark") != bool(spark):
        raise misused("--offline spark and --spark go together: the engine, and the address of its server")
    if spark and not storage:
        raise misused("--offline spark computes over files in a bucket: also give --storage")
    missing = [name for name, each in addresses.items() if not each]
    servers = None
    if any(addresses.values()) and missing:
        raise misused(f"servers go together: also give {' and '.join(missing)}")
    if storage or not missing:
        from asof.demo.stage import DemoServers

        servers = DemoServers(
            postgres or "", kafka or "", redis or "", offline, message_format, project, storage or "",
            storage_endpoint or "", spark or "",
        )  # fmt: skip

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
