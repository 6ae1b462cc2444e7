"""`asof profile`: what the values of views look like, and how far they moved from a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.cli.tables import Column
from asof.defaults import PROFILE_ROWS, SEED

if TYPE_CHECKING:
    from asof.profiles.expectations import ExpectationResult
    from asof.profiles.summary import FeatureProfile


@click.command(cls=Command)
@click.argument("views", nargs=-1)
@click.option("--start", metavar="TIME", help="Only rows with an event time from then on.")
@click.option("--end", metavar="TIME", help="Only rows with an event time before then. [default: now]")
@click.option(
    "--limit", "-n", default=PROFILE_ROWS, show_default=True, type=click.IntRange(min=1),
    help="As of how many rows of its source an aggregated view is read.",
)  # fmt: skip
@click.option("--seed", default=SEED, show_default=True, help="The same seed draws the same rows.")
@click.option(
    "--compare", metavar="BASELINE",
    help="Measure drift from 'previous', a date or time, 'training-set:NAME', 'served' or 'served:SERVICE'.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Check the views' expectations only, and measure nothing else.")
@click.option("--keep/--no-keep", default=True, show_default=True, help="Keep the results in the registry.")
@pass_context
def profile(
    context: CliContext,
    views: tuple[str, ...],
    start: str | None,
    end: str | None,
    limit: int,
    seed: int,
    compare: str | None,
    check: bool,
    keep: bool,
) -> None:
    """Measure what values look like, and how far they drifted.

    All views, or VIEWS: nulls, distinct values, quantiles, histograms, frequent values; and their expectations. Exits
    with code 10 if an expectation does not hold, or a feature's drift from the baseline raises an alarm.

    \b
    asof profile
    asof profile user_traffic --compare previous
    asof profile --compare training-set:fraud_2026_01
    asof profile --check
    """
    if check:
        if compare is not None:
            raise click.UsageError("--check measures no drift: leave out --compare, or --check")
        _check(context, list(views) or None, start=start, end=end, n=limit, seed=seed, keep=keep)
        return
    with context.progress() as progress:
        report = context.store.profile(
            list(views) or None, start=start, end=end, n=limit, seed=seed, compare=compare, keep=keep, progress=progress
        )
    if context.output.form == "json":
        context.output.noted(**report.to_dict())
    else:
        columns = [
            Column("feature"), Column("type", spare=True), Column("rows"), Column("nulls"), Column("distinct"),
            Column("mean"), Column("min", spare=True), Column("median", spare=True), Column("max", spare=True),
        ]  # fmt: skip
        if compare is not None:
            columns += [Column("psi"), Column("js", spare=True), Column("drift")]
        records = [_shown(each) for each in report.features]
        context.output.records("features", records, columns, empty="Nothing is applied yet: run `asof apply`.")
        if compare is not None:
            _note_baselines(context, report)
        if results := [each for view in report.views for each in view.expectations]:
            _show_results(context, results)
    if not report.ok:
        context.found_problems()


def _check(
    context: CliContext, views: list[str] | None, *, start: str | None, end: str | None, n: int, seed: int, keep: bool
) -> None:
    with context.progress() as progress:
        results = list(
            context.store.check_expectations(
                views, start=start, end=end, n=n, seed=seed, keep=keep, progress=progress
            )
        )  # fmt: skip
    _show_results(context, results)
    if not all(each.ok for each in results):
        context.found_problems()


def _show_results(context: CliContext, results: Sequence[ExpectationResult]) -> None:
    records = [{**each.to_dict(), "result": "holds" if each.ok else "FAILS"} for each in results]
    columns = [
        Column("view"), Column("expectation"), Column("result"), Column("expected", prose=True, spare=True),
        Column("found", prose=True),
    ]  # fmt: skip
    context.output.records("expectations", records, columns, empty="No view has expectations.")


def _shown(each: FeatureProfile) -> dict[str, Any]:
    """One feature as cells of text: `≈` before what is estimated."""
    about = "≈" if each.distinct_is_approximate else ""
    median = None if each.measured == "length" else each.quantiles.get("0.5")
    shown: dict[str, Any] = {
        "feature": each.reference,
        "type": each.dtype,
        "rows": f"{each.rows:,}",
        "nulls": f"{each.null_share:.1%}",
        "distinct": None if each.distinct is None else f"{about}{each.distinct:,}",
        "mean": "hidden" if each.is_hidden else _mean(each),
        "min": each.min,
        "median": None if median is None else ("≈" if each.quantiles_are_approximate else "") + each.shown(median),
        "max": each.max,
    }
    if each.drift is not None:
        alarm = "ALARM" if each.drift.alarm else "no alarm"
        shown |= {"psi": f"{each.drift.psi:.3f}", "js": f"{each.drift.js:.3f}", "drift": alarm}
    return shown


def _mean(each: FeatureProfile) -> str | None:
    if each.mean is None:
        return None
    return f"length {each.mean:.4g}" if each.measured == "length" else f"{each.mean:.6g}"


def _note_baselines(context: CliContext, report: Any) -> None:
    names = {each.drift.baseline for each in report.features if each.drift is not None}
    without = sorted({each.view for each in report.features if each.drift is None} - {
        each.view for each in report.features if each.drift is not None
    })  # fmt: skip
    if names:
        context.note(f"Compared with {', '.join(sorted(names))}.")
    if without:
        context.note(f"Nothing to compare with: {', '.join(without)}.")
