"""`asof keys new`: API keys for the feature server."""

from __future__ import annotations

from datetime import datetime

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import MOMENT, Group
from asof.timing import iso, micros


@click.group(cls=Group)
def keys() -> None:
    """Make API keys for the feature server: `new`."""


@keys.command("new")
@click.option("--name", default="", metavar="NAME", help="Who will use it; the audit log shows it.")
@click.option(
    "--role", "roles", multiple=True, default=("read",), show_default=True, metavar="ROLE",
    help="What it allows: read, write, admin, or a role of auth.roles; may be repeated.",
)  # fmt: skip
@click.option("--expires", type=MOMENT, help="When it expires. [default: never]")
@pass_context
def new(context: CliContext, name: str, roles: tuple[str, ...], expires: datetime | None) -> None:
    """Make a key, and the lines of feature_store.yaml that let it in.

    The key is shown once and never stored: the lines hold its hash.
    """
    from asof.server.security.keys import new_key

    key = new_key()
    entry = {"id": key.id, "hash": key.hash}
    entry |= {"name": _quoted(name)} if name else {}
    entry["roles"] = f"[{', '.join(roles)}]"
    entry |= {"expires": iso(micros(expires))} if expires else {}
    lines = [f"    {'- ' if i == 0 else '  '}{field}: {value}" for i, (field, value) in enumerate(entry.items())]
    context.output.noted(key=key.text, id=key.id, hash=key.hash, name=name, roles=list(roles), expires=expires)
    if context.output.form == "text":
        context.output.lines("key", [key.text], key.text)
        said = ["", "Keep it now: it is not shown again. In feature_store.yaml:", "", "auth:", "  keys:", *lines]
        # On stderr, so that the key alone can be piped to where secrets are kept.
        click.echo("\n".join(said), err=True)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
