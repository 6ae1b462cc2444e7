"""`asof search`: find what is applied by a name, a description, or by what it is made of."""

from __future__ import annotations

import click

from asof.catalog.entries import KINDS, entries_of
from asof.cli.context import CliContext, pass_context
from asof.cli.kinds import DESCRIPTION
from asof.cli.options import SHOWN_ROWS, Command
from asof.cli.tables import Column


@click.command(cls=Command)
@click.argument("text", nargs=-1)
@click.option("--kind", type=click.Choice(KINDS), help="Only of this kind.")
@click.option("--entity", metavar="NAME", help="Only what is about this entity.")
@click.option("--source", metavar="NAME", help="Only what comes from this source.")
@click.option("--owner", metavar="NAME", help="Only what this owner has.")
@click.option("--tag", metavar="NAME[=VALUE]", help="Only what has this tag.")
@click.option("--stale", is_flag=True, help="Only what is served older than it should be.")
@click.option("--unused", is_flag=True, help="Only what was neither served nor in a saved training set for 30 days.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=SHOWN_ROWS, show_default=True, help="So many.")
@pass_context
def search(
    context: CliContext,
    text: tuple[str, ...],
    kind: str | None,
    entity: str | None,
    source: str | None,
    owner: str | None,
    tag: str | None,
    stale: bool,
    unused: bool,
    limit: int,
) -> None:
    """Find features, views, services, entities and sources.

    TEXT is a name, or terms (or their beginnings) of names, descriptions, tags, owners, source columns and expressions,
    in any order. A typo in it does no harm. Without TEXT, everything is listed that the options leave. Of what matches
    equally well, the most used comes first, then what is fresh and audited.

    \b
    asof search session page
    asof search user_trafic:views_1d
    asof search --tag pii --kind feature
    """
    # The search loads NumPy, which --help does without.
    from asof.catalog.health_index import read_health
    from asof.catalog.search import CatalogSearch, filter_of
    from asof.store import open_store_of

    store = context.store
    snapshot = open_store_of(store).snapshot()
    entries = CatalogSearch(entries_of(snapshot.project))
    health = read_health(store, snapshot, with_streams=stale)
    for each in health.late if stale or unused else ():
        context.note(f"note: {each}")
    entries.rank_by(health.rank)
    keeps = filter_of(
        kind=kind, entity=entity, source=source, owner=owner, tag=tag, stale=stale, unused=unused, health=health
    )
    found = entries.find(" ".join(text), limit=limit, keeps=keeps)
    records = [
        {
            "kind": each.kind, "name": each.name, "type": each.type or None, "description": each.description or None,
            "expression": "; ".join(each.expressions) or None if each.kind == "feature" else None,
            "requests": health.requests_of(each) or None,
            "owner": each.owner or None, "tags": dict(each.tags) or None, "defined_at": each.where or None,
        }
        for each in found
    ]  # fmt: skip
    spare = (
        Column("expression", prose=True, spare=True),
        Column("requests", spare=True),
        Column("type", spare=True),
        Column("owner", spare=True),
    )
    columns = (Column("kind"), Column("name"), DESCRIPTION, *spare)
    empty = "Nothing is applied yet: run `asof apply`." if not len(entries) else "Nothing matches."
    context.output.records("matches", records, columns, empty=empty)
