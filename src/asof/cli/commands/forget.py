"""`asof forget`: one key removed from everywhere."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command, key_option, key_types, misused, read_key


@click.command(cls=Command)
@click.argument("entity", required=False)
@click.option("--entity", "named", metavar="ENTITY", help="The entity, in place of the argument.")
@key_option(multiple_rows=False)
@click.option("--yes", "-y", is_flag=True, help="Do it without asking.")
@pass_context
def forget(context: CliContext, entity: str | None, named: str | None, key: tuple[str, ...], yes: bool) -> None:
    """Remove one key from everywhere.

    From archives, logs, online store and dead letters. ENTITY says what the key
    identifies. Lists the training sets that hold it. It cannot be undone.

    \b
    asof forget user --key user_id=7
    asof forget --entity user --key 7
    """
    about = entity or named
    if about is None:
        raise misused("expected an entity: asof forget ENTITY --key NAME=VALUE")
    join_keys = context.store.get_entity(about).join_keys
    # A bare value is enough where only one column identifies the entity.
    given = [each if "=" in each or len(join_keys) != 1 else f"{join_keys[0]}={each}" for each in key]
    wanted = read_key(given, key_types(context))
    shown = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    context.ask(f"Forget {about} {shown} permanently, in project {context.store.project!r}?", yes=yes)
    forgotten = context.store.forget(about, wanted).to_dict()
    if context.output.form == "text":
        # The title has them.
        del forgotten["entity"], forgotten["key"]
    context.output.details("forgotten", forgotten, title=f"Forgot {about} {shown}")
