"""`asof sample | explain | audit | doctor`: looking into the store."""

from __future__ import annotations

from datetime import datetime

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import MOMENT, SHOWN_ROWS, Command, key_option, key_types, read_key, shown_rows_option
from asof.cli.tables import Column
from asof.defaults import AUDIT_KEYS, SAMPLE_ROWS, SEED

SHOWN_DIFFERENCES = 20

_PLACES = ("partition", "offset", "ingested_at", "in_window", "from")
"""Columns that say where an event stands; on a narrow terminal the others matter more."""


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
    context.output.rows("rows", context.store.sample(name, n=limit, seed=seed, by=by, online=online).to_arrow())


@click.command(cls=Command)
@click.argument("reference", metavar="VIEW:FEATURE")
@key_option(multiple_rows=False)
@click.option("--at", type=MOMENT, help="As of this time. [default: now]")
@shown_rows_option
@pass_context
def explain(context: CliContext, reference: str, key: tuple[str, ...], at: datetime | None, limit: int | None) -> None:
    """Show which rows or events made a value.

    \b
    asof explain user_traffic:views_1d --key user_id=7
    """
    explained = context.store.explain(reference, read_key(key, key_types(context)), at=at)
    context.output.lines("explanation", explained.text.splitlines(), explained.text, wrap=True)
    limit = limit or (SHOWN_ROWS if context.output.form == "text" else explained.rows.num_rows)
    context.output.rows("rows", explained.rows.slice(0, limit), empty="There is no row or event of it.", spare=_PLACES)
    if explained.rows.num_rows > limit:
        context.note(f"These are the first {limit} of {explained.rows.num_rows:,} rows; --limit shows more.")
    context.output.noted(value=explained.value)


@click.command(cls=Command)
@click.argument("names", nargs=-1)
@click.option(
    "--keys", default=AUDIT_KEYS, show_default=True, type=click.IntRange(min=1), help="How many keys of each view."
)
@click.option("--seed", default=SEED, show_default=True, help="The same seed takes the same keys.")
@pass_context
def audit(context: CliContext, names: tuple[str, ...], keys: int, seed: int) -> None:
    """Compare what serving answers with history, without tolerance.

    All views, or NAMES. Leaves with code 10 where they differ, and names the cause of each difference.
    """
    report = context.store.audit(list(names) or None, keys=keys, seed=seed)
    facts = report.to_dict()
    if context.output.form == "json":
        context.output.details("audit", facts)
    else:
        known = [each.to_dict() for each in report.differences[:SHOWN_DIFFERENCES]]
        columns = [Column(key, prose=key in ("cause", "text"), null="null") for key in known[0]] if known else []
        context.output.details("audit", {key: value for key, value in facts.items() if key != "differences"})
        context.output.records("differences", known, columns, empty="Serving equals training: no differences.")
        if (left := len(report.differences) - len(known)) > 0:
            context.note(f"{left} more differences; --output json has all.")
    if not report.ok:
        context.found_problems()


@click.command(cls=Command)
@pass_context
def doctor(context: CliContext) -> None:
    """Check every part of the store, one line each.

    Also who may use its server, and until when. Leaves with code 10 where a part is not well.
    """
    from asof.opening.clock import system_clock
    from asof.server.security.checks import security_checks

    checks = [*context.store.doctor(), *security_checks(context.store.config, now=system_clock())]
    content = [{"part": check.part, "ok": check.ok, "text": check.text, "hint": check.hint} for check in checks]
    records = [
        {"": "ok" if check.ok else "BAD", "part": check.part,
         "text": f"{check.text}; next: {check.hint}" if check.hint and not check.ok else check.text}
        for check in checks
    ]  # fmt: skip
    shown = content if context.output.form == "json" else records
    context.output.records("checks", shown, [Column(""), Column("part"), Column("text", prose=True)], empty="No parts.")
    if not all(check.ok for check in checks):
        context.found_problems()
