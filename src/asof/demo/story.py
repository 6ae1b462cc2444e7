"""The story of `asof demo`: orders and traffic become a training set, and are served while events stream in."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from asof.defaults import DEMO_SEED, DEMO_TICKS, DEMO_USERS
from asof.demo.histograms import count_views, draw_histograms, terminal_histograms
from asof.demo.report import NextCommand, Report, StoryStep, write_json, write_report
from asof.demo.repository import ENTITY_FRAME, SERVICE, TRAINING_COLUMNS
from asof.demo.shop import Shop, more_events, simulate, write_sources
from asof.demo.stage import DemoServers, Stage, stage_of
from asof.display import counted
from asof.errors import AsofError, MissingExtra
from asof.planning import describe
from asof.store import FeatureStore, open_store_of
from asof.timing import iso, moment

Progress = Callable[[str, int, int | None], None]
Say = Callable[[str], object]

TRAINING_SET = "orders"
SERVED_USERS = 5
AUDIT_KEYS = 200
EXTRA_MINUTES = 5


class AuditFailed(AsofError):
    """The demo served a value that its history does not confirm."""


def silent(what: str, done: int, total: int | None) -> None:
    """Ignore progress."""


class Story:
    """Tells steps as they are done, and keeps them for the report."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.steps: list[StoryStep] = []

    def tell(self, line: str) -> None:
        """Say a line of a step, in as many lines of the terminal as it needs."""
        indent = "   " + " " * (len(line) - len(line.lstrip()))
        self.say(fill(line.strip(), _width(), initial_indent=indent, subsequent_indent=f"{indent}  "))

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[StoryStep]:
        """One step: its name and what it does; the block sets how many rows it gave."""
        self.say(f"\n{len(self.steps) + 1}. {name}\n   {text}")
        step: StoryStep = {"name": name, "text": text, "seconds": 0.0, "rows": None}
        started = time.monotonic()
        yield step
        step["seconds"] = time.monotonic() - started
        self.steps.append(step)
        rows = "" if step["rows"] is None else f"{counted(step['rows'], 'row')}, "
        self.say(f"   done: {rows}{step['seconds']:.1f} s")


def _width() -> int:
    return min(shutil.get_terminal_size((80, 24)).columns, 120)


def run(
    output: Path | str,
    *,
    users: int = DEMO_USERS,
    ticks: int = DEMO_TICKS,
    seed: int = DEMO_SEED,
    servers: DemoServers | None = None,
    progress: Progress = silent,
    say: Say = print,
) -> Report:
    """Run the whole demo in a folder; files of an earlier demo there are replaced.

    Args:
        users, ticks: number of users, and minutes simulated.
        servers: servers or a bucket for the shop and its features; None for embedded stores, in the folder.

    Returns:
        The content of `report.json`.

    Raises:
        AuditFailed: a served value differs from history; the report names it.
    """
    output = Path(output).resolve()
    for name in ("repo", "source"):
        shutil.rmtree(output / name, ignore_errors=True)
    stage = stage_of(output, servers)
    with stage.environment():
        return _tell(Story(say), stage, output, users=users, ticks=ticks, seed=seed, progress=progress)


def _tell(story: Story, stage: Stage, output: Path, *, users: int, ticks: int, seed: int, progress: Progress) -> Report:
    say = story.say
    with story.step("Simulate the shop", f"{users:,} users live in it for {ticks:,} minutes") as step:
        shop = simulate(users=users, ticks=ticks, seed=seed)
        write_sources(shop, output / "source")
        step["rows"] = shop.traffic.num_rows
        say(f"   {shop.orders.num_rows:,} orders and {shop.traffic.num_rows:,} page views, in {output / 'source'}")

    now = [shop.ends_at]
    with story.step(
        "Write a feature repository", "sources, views and a service, in two files that can be read"
    ) as step:
        for path in stage.write_repository(shop.ends_at):
            say(f"   {path}")

    def open_store() -> FeatureStore:
        return FeatureStore(output / "repo", clock=lambda: moment(now[0]))

    if stage.fills:
        with story.step("Fill the servers", stage.fills):
            for made in stage.fill(shop, open_store):
                story.tell(made)

    with open_store() as store:
        say(f"   the store's {open_store_of(store).clock_note}")
        with story.step("Plan and apply", "check the definitions against the real sources, then apply them"):
            plan = store.plan()
            for line in describe(plan):
                if not line.startswith("    ~"):
                    story.tell(line)
            store.apply(plan, progress=progress)

        with story.step(
            "Stream the traffic", "a producer fills the log; a worker serves and archives every event"
        ) as step:
            stage.send(store, shop)
            counts = store.stream_run(until_caught_up=True, progress=progress)
            step["rows"] = counts.get("events", 0)

        with story.step(
            "Build the training set", "every order, with each feature as of the order's own moment"
        ) as step:
            story.tell(ENTITY_FRAME)
            result = store.get_historical_features(entity_df=ENTITY_FRAME, features=SERVICE)
            manifest = result.save(TRAINING_SET)
            training = store.read_training_set(TRAINING_SET).to_arrow().select(list(TRAINING_COLUMNS))
            pq.write_table(training, output / "training_set.parquet")
            step["rows"] = training.num_rows
            say(f"   kept as training set {TRAINING_SET!r}, content {manifest.content_hash[:12]}")

        with story.step(
            "Materialize the profiles", "users who registered, from their table into the online store"
        ) as step:
            step["rows"] = sum(each.rows for each in store.materialize(progress=progress))

        chosen = _active_users(shop, seed)
        with story.step("Serve some users", "the same features, as of now") as step:
            before, before_at = _served(store, chosen), now[0]
            step["rows"] = len(before)
            _show(before, say)

        with story.step("Stream a few more events", "and look again") as step:
            later = more_events(shop, users=chosen, minutes=EXTRA_MINUTES, seed=seed + 1)
            now[0] = later.ends_at
            # The commands that a reader tries next find the clock where the story left it.
            stage.write_repository(later.ends_at)
            stage.send(store, later)
            # A release of the website that forgot who is looking, for a moment.
            # With a key, it is in the same partition each time: the docs show offsets.
            broken = b'{"page": "photo_page", "timestamp": %d}' % (now[0] // 1000)
            store.send("traffic", [broken], keys=[b"unknown"])
            store.stream_run(until_caught_up=True, progress=progress)
            after = _served(store, chosen)
            step["rows"] = later.traffic.num_rows
            _show(after, say)
            refused = len(store.dead_letters())
            story.tell(
                f"{counted(refused, 'broken message')} kept as {counted(refused, 'dead letter')}; all others went on"
            )

        with story.step("Audit", "what is served now against history, over the events that each row has seen") as step:
            audit = store.audit(keys=AUDIT_KEYS, seed=seed)
            found: dict[str, Any] = audit.to_dict()
            step["rows"] = found["keys"]
            story.tell(
                f"{counted(found['keys'], 'key')}, {found['active_keys']} of them with a non-zero window or an open "
                f"session; {found['equal']:,} of {found['values']:,} values equal"
            )

        with story.step("Profile", "what the values look like, kept to be compared with later") as step:
            profile = store.profile(seed=seed, progress=progress)
            step["rows"] = max(each.rows for each in profile)
            for feature in profile:
                if feature.nulls:
                    share = feature.nulls / feature.rows
                    story.tell(f"{feature.view}:{feature.feature} is null in {share:.1%} of the rows")

    with story.step("Look at the histograms", "page views of the session in which each order was made"):
        say(terminal_histograms(training, width=_width()))
        pictures = [output / "report.html"]
        try:
            draw_histograms(training, output / "histograms.png")
            pictures.append(output / "histograms.png")
        except MissingExtra as missing:
            # The page draws its own; only the picture file needs a library that the base install leaves out.
            say(f"   no histograms.png: {missing.message}; {missing.hint}")

    audited: Any = {key: found[key] for key in ("keys", "active_keys", "values", "equal", "differences")}
    report: Report = {
        "project": store.project,
        "clock": iso(now[0]),
        "seed": seed,
        "sizes": {
            "users": users, "minutes": ticks, "orders": shop.orders.num_rows, "page_views": shop.traffic.num_rows,
        },
        "steps": story.steps,
        "training_set": {
            "rows": training.num_rows, "columns": training.column_names, "preview": training.slice(0, 10).to_pylist(),
        },
        "histograms": count_views(training),
        "online": {
            "key": "user_id", "events": later.traffic.num_rows, "before_at": iso(before_at), "after_at": iso(now[0]),
            "before": before, "after": after,
        },
        "audit": audited,
        "servers": stage.positions(),
        "next_commands": _next_commands(stage.enter, user=chosen[0]),
    }  # fmt: skip
    write_json(report, output / "report.json")
    write_report(report, output / "report.html")
    say(f"\nLook at {' and '.join(map(str, pictures))}. Then try:\n")
    for each in report["next_commands"]:
        say(f"   {each['command']}")
    if found["differences"]:
        raise AuditFailed(
            f"{len(found['differences'])} served values differ from history: {found['differences'][0]}",
            hint=f"see {output / 'report.html'}, and report it: this must not happen",
        )
    return report


def _next_commands(enter: str, *, user: int) -> list[NextCommand]:
    """Commands to try next, as typed in the reader's shell."""
    asof = "asof" if shutil.which("asof") else str(Path(sys.executable).with_name("asof"))
    tries = (
        (enter, "go into the feature repository"),
        (f"{asof} list views", "what there is"),
        (f"{asof} show training-sets", "the training set, and how it was made"),
        (f"{asof} get online --service {SERVICE} --key user_id={user}", "serve one user"),
        (f"{asof} explain user_traffic:views_7d --key user_id={user}", "which events made a value"),
        (f"{asof} sample user_traffic --by entities", "look at random users"),
        (f"{asof} audit", "compare serving with history"),
        (f"{asof} doctor", "see whether everything works"),
        (f"{asof} ui", "look at all of it in a browser"),
    )
    return [{"command": command, "text": text} for command, text in tries]


def _active_users(shop: Shop, seed: int) -> list[int]:
    """A few recently active users."""
    traffic = shop.traffic
    recent = list(dict.fromkeys(reversed(traffic["user_id"].to_pylist())))[: SERVED_USERS * 4]
    pool = recent or shop.users["user_id"].to_pylist()
    picked = np.random.default_rng(seed).permutation(len(pool))[:SERVED_USERS]
    return sorted(pool[i] for i in picked.tolist())


def _served(store: FeatureStore, users: list[int]) -> list[dict[str, Any]]:
    response = store.get_online_features(SERVICE, [{"user_id": user} for user in users])
    columns = response.to_dict()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _show(rows: list[dict[str, Any]], say: Say) -> None:
    """A few served values as a small table, narrow enough for 80 columns."""
    titles = {
        "user_id": "user", "country": "country", "session_listing_page_views": "listing",
        "session_product_page_views": "product", "session_photo_page_views": "photo", "views_1d": "1 d",
        "views_7d": "7 d",
        "last_page_1h": "last page",
    }  # fmt: skip
    lines = [list(titles.values())]
    lines += [["-" if row[name] is None else str(row[name]) for name in titles] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    for line in lines:
        say("   " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
