"""`asof audit`: served values against history."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.tables import Column
from asof.defaults import AUDIT_KEYS, SEED

SHOWN_DIFFERENCES = 20

_NOTHING = "Nothing was compared: no view that can be audited has a key online."


@click.command(cls=Command)
@click.argument("names", nargs=-1)
@click.option(
    "--keys", default=AUDIT_KEYS, show_default=True, type=click.IntRange(min=1), help="How many keys of each view."
)
@click.option("--seed", default=SEED, show_default=True, help="The same seed takes the same keys.")
@pass_context
def audit(context: CliContext, names: tuple[str, ...], keys: int, seed: int) -> None:
    """Compare served values with history, without tolerance.

    All views, or NAMES. Exits with code 10 if they differ, and names the cause of each difference.
    """
    with context.progress() as progress:
        report = context.store.audit(list(names) or None, keys=keys, seed=seed, progress=progress)
    facts = report.to_dict()
    if context.output.form == "json":
        context.output.details("audit", facts)
    else:
        known = [each.to_dict() for each in report.differences[:SHOWN_DIFFERENCES]]
        columns = [Column(key, prose=key in ("cause", "text"), null="null") for key in known[0]] if known else []
        context.output.details("audit", {key: value for key, value in facts.items() if key != "differences"})
        same = "Serving equals training: no differences." if report.values else _NOTHING
        context.output.records("differences", known, columns, empty=same)
        if (left := len(report.differences) - len(known)) > 0:
            context.note(f"{left} more differences; --output json has all.")
    if not report.ok:
        context.found_problems()
