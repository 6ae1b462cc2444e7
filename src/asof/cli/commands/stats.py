"""`asof stats`: a view's features as bars."""

from __future__ import annotations

from pathlib import Path

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import LOCAL_PATH, Command
from asof.cli.output import width
from asof.defaults import PROFILE_ROWS, SEED
from asof.display import counted
from asof.errors import NotFound, nearest


@click.command(cls=Command)
@click.argument("reference", metavar="VIEW[:FEATURE]")
@click.option("--start", metavar="TIME", help="Only rows with an event time from then on.")
@click.option("--end", metavar="TIME", help="Only rows with an event time before then. [default: now]")
@click.option(
    "--limit", "-n", default=PROFILE_ROWS, show_default=True, type=click.IntRange(min=1),
    help="As of how many rows of its source an aggregated view is read.",
)  # fmt: skip
@click.option("--seed", default=SEED, show_default=True, help="The same seed draws the same rows.")
@click.option("--kept", is_flag=True, help="Draw the newest profile that was kept, and measure nothing.")
@click.option("--save", type=LOCAL_PATH, metavar="FILE", help="Also draw a PNG into this file.")
@pass_context
def stats(
    context: CliContext,
    reference: str,
    start: str | None,
    end: str | None,
    limit: int,
    seed: int,
    kept: bool,
    save: str | None,
) -> None:
    """Draw the distribution of a feature, or of all features of a view.

    Text and booleans as bars of their most frequent values, numbers and times as a histogram, all else as one of
    lengths. What is tagged pii is not drawn.

    \b
    asof stats user_traffic:views_1d
    asof stats user_traffic --save traffic.png
    """
    from asof.profiles.charts import chart_of, charts_text

    view, _, feature = reference.partition(":")
    if kept:
        found = list(context.store.kept_profiles(view))
        if not found:
            raise NotFound(f"no profile of {view!r} is kept", hint=f"run `asof profile {view}`, or leave out --kept")
        profile = found[0]
    else:
        with context.progress() as progress:
            report = context.store.profile(
                [view], start=start, end=end, n=limit, seed=seed, keep=False, progress=progress
            )  # fmt: skip
        profile = report.views[0]
    features = [each for each in profile.features if feature in ("", each.feature)]
    if not features:
        names = [each.feature for each in profile.features]
        raise NotFound(
            f"{view!r} has no feature {feature!r}", hint=nearest(feature, names) or f"its features are {names}"
        )
    charts = {each.feature: chart_of(each) for each in features}
    drawn = [chart for chart in charts.values() if chart is not None]
    if save is not None and drawn:
        from asof.profiles.pictures import draw_charts

        draw_charts(drawn, Path(save), title=view, caption=counted(profile.rows, "row"), of="values")
    texts = []
    for each in features:
        chart = charts[each.feature]
        reason = "hidden: tagged pii" if each.is_hidden else "no values"
        texts.append(charts_text([chart], width()) if chart is not None else f"{each.reference}: {reason}")
    content = [each.to_dict() for each in features]
    context.output.lines("features", "\n\n".join(texts).split("\n"), content)
    if save is not None:
        context.note(f"Drawn into {save}." if drawn else f"There is nothing to draw, so {save} was not written.")
