"""A used store, and what children of a fork do with it: a program for tests, in a process of its own.

Run with the repository's folder and a name of `CASES`; it prints what each process found, as JSON lines. Children end as
a server's workers do, by the whole end of an interpreter, unless a case says otherwise.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, Sliding
from asof.errors import AsofError
from asof.store import open_store_of
from asof.types import Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FRAME = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})


def noon() -> datetime:
    return NOON


def applied(folder: Path, *, reads_files: bool, takes_pushes: bool) -> FeatureStore:
    """A store with a view of a file, and one of pushes."""
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [7], "at": at}), folder / "sales.parquet")
    store = FeatureStore(folder, clock=noon)
    user = Entity("user", join_keys=["user_id"])
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    views: list[FeatureView] = []
    if reads_files:
        views.append(FeatureView("latest", entities=[user], source=sales, schema=[Field("price", Int64)]))
    if takes_pushes:
        columns = [Field("user_id", Int64), Field("n", Int64), Field("at", Timestamp)]
        clicks = PushSource(name="clicks", schema=columns, timestamp_field="at")
        total = Aggregation(column="n", function="sum", window=Sliding(timedelta(hours=1)), name="total")
        views.append(FeatureView("clicked", entities=[user], source=clicks, aggregations=[total]))
    store.apply(views)
    store.materialize()
    if takes_pushes:
        push(store, 3)
    return store


def push(store: FeatureStore, number: int) -> int:
    return store.push("clicks", [{"user_id": 1, "n": number, "at": NOON}])


def listed(store: FeatureStore) -> list[str]:
    return sorted(each.name for each in store.list_feature_views())


def online(store: FeatureStore, feature: str = "latest:price") -> Any:
    return store.get_online_features([feature], [{"user_id": 1}]).to_dict()[feature.partition(":")[2]]


def history(store: FeatureStore, feature: str = "latest:price") -> Any:
    result = store.get_historical_features(FRAME, [feature])
    return result.to_arrow()[feature.partition(":")[2]].to_pylist()


def looks(store: FeatureStore) -> list[Any]:
    """What a store says to who only reads."""
    return [listed(store), online(store), history(store), store.sample("latest").to_arrow().num_rows]


def pushed(store: FeatureStore) -> list[Any]:
    return [online(store, "clicked:total"), history(store, "clicked:total")]


def say(who: str, work: Callable[[], Any]) -> None:
    try:
        found = work()
    except AsofError as error:
        found = f"{type(error).__name__}: {error}"
    print(json.dumps({who: found}), flush=True)


def forked(work: Callable[[], Any], after: Callable[[], Any] = lambda: None) -> None:
    """Let a child work and end; the parent does something after the fork, before the child begins."""
    wait, go_on = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(wait, 1)
        say("child", work)
        sys.exit()
    after()
    os.write(go_on, b"x")
    _, status = os.waitpid(child, 0)
    say("ended", lambda: os.waitstatus_to_exitcode(status))


def files(store: FeatureStore) -> None:
    looks(store)
    forked(lambda: looks(store))
    say("parent", lambda: looks(store))


def lazy(store: FeatureStore) -> None:
    looks(store)
    result = store.get_historical_features(FRAME, ["latest:price"])
    forked(lambda: result.to_arrow()["price"].to_pylist())
    say("parent", lambda: result.to_arrow()["price"].to_pylist())


def pool(store: FeatureStore) -> None:
    looks(store)
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as processes:
        say("child", lambda: processes.submit(looks, store).result(timeout=300))
    say("parent", lambda: looks(store))


def archives(store: FeatureStore) -> None:
    pushed(store)
    forked(lambda: online(store, "clicked:total"))
    forked(lambda: history(store, "clicked:total"))
    forked(lambda: push(store, 4))
    push(store, 5)
    say("parent", lambda: pushed(store))


def applies(store: FeatureStore) -> None:
    looks(store)
    view = store.get_feature_view("latest")
    again = FeatureView("again", entities=view.entities, source=view.source, schema=view.schema)

    def work() -> Any:
        store.apply([again])
        store.materialize(feature_views=["again"])
        return online(store, "again:price")

    forked(work, store.close)
    # A store looks once a second whether others applied something.
    open_store_of(store).refresh()
    say("parent", lambda: [listed(store), online(store, "again:price")])


def servers(store: FeatureStore) -> None:
    """For a configuration with servers, where a child can do all that its parent can."""
    pushed(store)

    def work() -> Any:
        before = pushed(store)
        push(store, 4)
        return [listed(store), before, pushed(store)]

    forked(work)
    push(store, 5)
    say("parent", lambda: [listed(store), pushed(store)])


CASES = {each.__name__: each for each in (files, lazy, pool, archives, applies, servers)}


if __name__ == "__main__":
    folder, case = Path(sys.argv[1]), sys.argv[2]
    made = applied(folder, reads_files=case != "servers", takes_pushes=case in ("archives", "servers"))
    CASES[case](made)
    made.close()
