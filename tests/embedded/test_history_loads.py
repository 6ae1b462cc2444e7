"""Rows of a log's batch source: loaded without asking, each once, whenever they come; and told of until they are."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    Session,
    Sliding,
    project_of,
)
from asof.errors import HistoryNotLoaded, RowsRefused
from asof.flows.admin.doctor import doctor
from asof.flows.admin.explain import explain
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.batch import load_history
from asof.flows.batch.backfill import backfill
from asof.flows.batch.known_rows import ArchiveComparison
from asof.flows.batch.materialize import materialize
from asof.flows.offline.key_rows import view_as_of, whole_view
from asof.flows.push.pusher import Pusher
from asof.flows.rows.history import not_loaded
from asof.flows.stores import Stores
from asof.flows.stream import bulk_rebuild
from asof.flows.stream.rebuild import rebuild
from asof.sql.partitions import HISTORY
from asof.testing.clock import NOW, MicrosClock
from asof.timing import HOUR, MINUTE, SECOND, Micros, moment
from asof.types import Int64, Json, String, Timestamp
from tests.embedded_stores import embedded_stores, read_online
from tests.oracle import features_as_of

ITEM = Entity("item", ["item"])
SCHEMA = [Field("item", Int64), Field("price", Int64), Field("at", Timestamp)]
VIEWS = ("newest", "ends", "windows")


def source(**options: Any) -> PushSource:
    options.setdefault("batch_source", FileSource("old/*.parquet", name="old", timestamp_field="at"))
    schema = options.pop("schema", SCHEMA)
    return PushSource("prices", schema, "at", **options)


def definitions(of: PushSource) -> list[Any]:
    ends = [
        Aggregation("price", "first", name="first"), Aggregation("price", "last", name="last"),
        Aggregation("price", "last_n", name="last_3", n=3), Aggregation("price", "count", name="n"),
        Aggregation("price", "sum", name="sum"),
    ]  # fmt: skip
    windows = [
        Aggregation("price", "sum", window=Sliding("2h"), name="two_hours"),
        Aggregation("price", "count", window=Session("20m"), name="session"),
        Aggregation("price", "max", window=Sliding("10m"), name="ten_minutes"),
    ]
    return [
        of, ITEM, FeatureView("newest", entities=[ITEM], source=of, schema=[Field("price", Int64)]),
        FeatureView("ends", entities=[ITEM], source=of, aggregations=ends),
        FeatureView("windows", entities=[ITEM], source=of, aggregations=windows),
    ]  # fmt: skip


def apply(stores: Stores, of: PushSource) -> None:
    apply_plan(stores, make_plan(stores, project_of(definitions(of))))


def row(price: int, *, item: int = 1, at: Micros = NOW - MINUTE, **more: Any) -> dict[str, Any]:
    return {"item": item, "price": price, "at": moment(at), **more}


class Years:
    """The batch source: a folder of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "old"
        self.folder.mkdir()
        self.files = 0
        self.rows: list[dict[str, Any]] = []

    def write(self, *rows: dict[str, Any]) -> None:
        """One more file."""
        self.rows += rows
        self._file(list(rows))

    def write_anew(self, rng: random.Random) -> None:
        """All rows in new files of other names, in another order, as a compaction leaves them."""
        for path in self.folder.glob("*.parquet"):
            path.unlink()
        rows = rng.sample(self.rows, len(self.rows))
        half = len(rows) // 2
        self._file(rows[:half])
        self._file(rows[half:])

    def _file(self, rows: list[dict[str, Any]]) -> None:
        self.files += 1
        names = list(rows[0]) if rows else [field.name for field in SCHEMA]
        columns: dict[str, Any] = {name: [each[name] for each in rows] for name in names}
        columns["at"] = pa.array(columns["at"], pa.timestamp("us", "UTC"))
        for name in ("item", "price"):
            columns[name] = pa.array(columns[name], pa.int64())
        pq.write_table(pa.table(columns), self.folder / f"{self.files:05}.parquet")


@pytest.fixture
def years(tmp_path: Path) -> Years:
    return Years(tmp_path)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = embedded_stores(tmp_path)
    yield made
    for part in (made.registry, made.online, made.log, made.offline):
        part.close()  # type: ignore[attr-defined]


@pytest.fixture
def pusher(stores: Stores) -> Iterator[Callable[..., None]]:
    """Push rows, each push a second later; they are archived at once."""
    stores.system_clock = MicrosClock(NOW - 24 * HOUR)
    made: list[Pusher] = []

    def push(*rows: dict[str, Any]) -> None:
        if not made:
            made.append(Pusher(stores, "prices"))
        stores.system_clock.move(SECOND)  # type: ignore[attr-defined]
        made[0].push(list(rows))
        made[0].ingest.flush()

    yield push
    for each in made:
        each.close()


def agreed(stores: Stores, item: int = 1) -> dict[str, Any]:
    """What serving and history both return."""
    return all_agreed(stores, [item])[item]


def all_agreed(stores: Stores, items: list[int]) -> dict[int, dict[str, Any]]:
    """What serving, asked for one item after the other, and history, for all at once, both return."""
    served: dict[int, dict[str, Any]] = {item: {} for item in items}
    trained: dict[int, dict[str, Any]] = {item: {} for item in items}
    snapshot = stores.registry.load(stores.project)
    for name in VIEWS:
        read = whole_view(snapshot.project.views[name])
        found = view_as_of(stores, snapshot, read, {"item": items}, stores.clock())
        for at, item in enumerate(items):
            online = read_online(stores, name, {"item": [item]})
            served[item] |= {feature: values[0] for feature, values in online.items() if feature != "item"}
            trained[item] |= {feature: values[at] for feature, values in found.items()}
    assert served == trained
    return served


def expected(stores: Stores, events: list[dict[str, Any]], item: int) -> dict[str, Any]:
    """What the oracle says of events with their arrival."""
    views = stores.registry.load(stores.project).project.views
    rows = [{**each, "event_time": int(each["at"].timestamp() * 1_000_000)} for each in events]
    found: dict[str, Any] = {}
    for name in VIEWS:
        found |= features_as_of(rows, views[name], [item], NOW)
    return found


def test_apply_loads_history_and_materialize_what_comes_later(stores: Stores, years: Years) -> None:
    years.write(row(1, at=NOW - 3 * HOUR), row(2, at=NOW - 2 * HOUR), row(2, at=NOW - 2 * HOUR))
    apply(stores, source())
    assert (agreed(stores)["n"], agreed(stores)["sum"]) == (3, 5)

    explained = explain(stores, stores.registry.load(stores.project), "ends:n", {"item": 1})
    assert "the row has seen the loaded history up to offset " in explained.text
    assert backfill(stores, "prices") == 0
    years.write(row(10, at=NOW - 150 * MINUTE), row(2, at=NOW - 2 * HOUR))
    found = materialize(stores)
    assert {each.view: each.loaded for each in found} == dict.fromkeys(VIEWS, 2)
    # Late rows count where they belong, and a further copy of a row is a further row.
    assert (agreed(stores)["n"], agreed(stores)["sum"], agreed(stores)["first"]) == (5, 17, 1)

    years.write(row(100))
    apply(stores, source())
    assert agreed(stores)["sum"] == 117
    assert [each.loaded for each in materialize(stores, views=["ends"])] == [0]


def test_the_progress_of_loads_and_of_what_they_bring_has_totals(stores: Stores, years: Years) -> None:
    years.write(row(1, at=NOW - 3 * HOUR), row(2, at=NOW - 2 * HOUR))
    apply(stores, source())
    years.write(row(4, at=NOW - HOUR), row(8, at=NOW - MINUTE), row(16, at=NOW - MINUTE))
    seen: list[tuple[str, int, int | None]] = []

    assert backfill(stores, "prices", progress=lambda *each: seen.append(each)) == 3
    assert seen == [
        ("check old", 5, 5), ("check old", 5, 5), ("load old", 3, 3), *((f"feed {view}", 3, 3) for view in sorted(VIEWS)),
    ]  # fmt: skip


def test_a_load_says_no_total_that_it_does_not_know(stores: Stores, years: Years) -> None:
    years.write(row(1, at=NOW - 3 * HOUR), row(2, at=NOW - 2 * HOUR))
    apply(stores, source())
    years.write(row(4, at=NOW - HOUR), row(8, at=NOW - MINUTE))
    seen: list[tuple[str, int, int | None]] = []

    # How many of the source's rows are within these times, only reading them says.
    materialize(stores, start=NOW - HOUR, end=NOW, progress=lambda *each: seen.append(each))
    assert seen[:3] == [("check old", 2, None), ("check old", 2, 2), ("load old", 2, 2)]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 6))])
def test_serving_is_training_between_and_after_loads(
    stores: Stores, years: Years, pusher: Callable[..., None], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random rows in the batch source, pushes, loads of all kinds, deaths in the middle, rebuilds."""
    monkeypatch.setattr(load_history, "PIECE_ROWS", 3)
    # So both items have more rows than are folded at once.
    monkeypatch.setattr(bulk_rebuild, "EVENTS_AT_ONCE", 4)
    rng = random.Random(seed)
    # No two different rows of the batch source have one key and time: their order is that of their loads.
    minutes = [(item, minute) for item in (0, 1) for minute in range(1, 180)]
    rng.shuffle(minutes)
    price, stamp = 0, 0
    pushed: list[dict[str, Any]] = []
    years.write(*(row(-place, item=item, at=NOW - minute * MINUTE) for place, (item, minute) in enumerate(minutes[:5])))
    del minutes[:5]
    of = source()
    apply(stores, of)
    append = type(stores.offline).append

    def load() -> None:
        rng.choice(
            [lambda: backfill(stores, "prices"), lambda: materialize(stores), lambda: apply(stores, of),
             lambda: materialize(stores, end=NOW)]
        )()  # fmt: skip

    for _ in range(25):
        what = rng.random()
        if what < 0.35:
            rows = []
            for _ in range(rng.randrange(1, 12)):
                item, minute = minutes.pop()
                price += 1
                rows += [row(price, item=item, at=NOW - minute * MINUTE)] * rng.choice([1, 1, 1, 2])
            years.write(*rows, *rng.sample(years.rows, rng.randrange(2)))
        elif what < 0.6:
            rows = []
            for _ in range(rng.randrange(1, 3)):
                price += 1
                stamp += 1
                rows.append(row(price, item=rng.randrange(2), at=NOW - rng.randrange(1, 180) * MINUTE))
                pushed.append({**rows[-1], "arrival": (1, stamp)})
            pusher(*rows)
        elif what < 0.7:
            years.write_anew(rng)
        elif what < 0.8:
            rebuild(stores, stores.registry.load("shop").project.views[rng.choice(VIEWS)])
        elif what < 0.9:
            left, is_written = [rng.randrange(3)], rng.random() < 0.5

            def dying(self: Any, *args: Any, left: Any = left, is_written: bool = is_written) -> int:
                if left[0]:
                    left[0] -= 1
                    return int(append(self, *args))
                if is_written:
                    append(self, *args)
                raise KeyboardInterrupt

            with monkeypatch.context() as killed:
                killed.setattr(type(stores.offline), "append", dying)
                try:
                    load()
                except KeyboardInterrupt:
                    pass
            # Until the next load the rows that got in are in training alone.
            backfill(stores, "prices")
        else:
            load()
        all_agreed(stores, [0, 1])

    load()
    events = [{**each, "arrival": (0, 0)} for each in years.rows] + pushed
    assert all_agreed(stores, [0, 1]) == {item: expected(stores, events, item) for item in (0, 1)}, seed
    assert backfill(stores, "prices") == 0


CHILD = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from asof.flows.batch import load_history
from asof.flows.batch.backfill import backfill
from asof.offline.duckdb.engine import DuckDBOffline
from tests.embedded_stores import embedded_stores
load_history.PIECE_ROWS = 10
append, left = DuckDBOffline.append, [{after}]
def mortal(self, *args):
    if not left[0] and not {is_written}:
        os.kill(os.getpid(), signal.SIGKILL)
    done = append(self, *args)
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return done
DuckDBOffline.append = mortal
backfill(embedded_stores(Path({folder!r})), "prices")
"""


@pytest.mark.parametrize(("after", "is_written"), [(0, False), (0, True), (2, False), (2, True)])
def test_a_load_that_was_killed_is_continued(
    stores: Stores, years: Years, tmp_path: Path, after: int, is_written: bool
) -> None:
    years.write()
    apply(stores, source())
    years.write(*(row(price, at=NOW - HOUR - price * SECOND) for price in range(95)))
    text = CHILD.format(
        path=[*sys.path, str(Path(__file__).parents[2])], after=after, is_written=is_written, folder=str(tmp_path)
    )
    child = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=300)
    assert child.returncode == -signal.SIGKILL, child.stderr
    archived = stores.offline.rows(stores.archive_of(stores.registry.load("shop").project.sources["prices"]))
    assert (archived is not None) == bool(after or is_written)

    assert backfill(stores, "prices") == 95 - 10 * (after + is_written)
    assert (agreed(stores)["n"], agreed(stores)["sum"]) == (95, sum(range(95)))


def test_two_loads_at_once_load_each_row_once(stores: Stores, years: Years, monkeypatch: pytest.MonkeyPatch) -> None:
    years.write(row(1))
    apply(stores, source())
    years.write(*(row(price, at=NOW - HOUR - price * SECOND) for price in range(20)))
    monkeypatch.setattr(load_history, "PIECE_ROWS", 4)
    append, others = type(stores.offline).append, [3]

    def raced(self: Any, *args: Any) -> int:
        if others[0]:
            # Another process is quicker, with rows of its own order.
            others[0] -= 1
            years.write_anew(random.Random(others[0]))
            backfill(stores, "prices")
        return int(append(self, *args))

    monkeypatch.setattr(type(stores.offline), "append", raced)
    backfill(stores, "prices")
    assert (agreed(stores)["n"], agreed(stores)["sum"]) == (21, 1 + sum(range(20)))


def test_an_event_that_is_pushed_and_in_the_batch_source_counts_once_by_its_id(
    stores: Stores, years: Years, pusher: Callable[..., None]
) -> None:
    schema = [*SCHEMA, Field("id", String)]
    years.write(row(1, id="a", at=NOW - 3 * HOUR), row(5, id=None, at=NOW - 3 * HOUR))
    apply(stores, source(event_id="id", schema=schema))
    pusher(row(1, id="a", at=NOW - 3 * HOUR))
    pusher(row(2, id="b", at=NOW - 2 * HOUR))
    assert (agreed(stores)["n"], agreed(stores)["sum"]) == (3, 8)

    # The night's export has what was pushed, rows of its own, and some of them twice.
    years.write(
        row(2, id="b", at=NOW - 2 * HOUR), row(3, id="c"), row(3, id="c"), row(5, id=None, at=NOW - 3 * HOUR),
    )  # fmt: skip
    assert backfill(stores, "prices") == 2
    assert (agreed(stores)["n"], agreed(stores)["sum"]) == (5, 16)
    pusher(row(3, id="c"))
    assert backfill(stores, "prices") == 0
    assert (agreed(stores)["n"], agreed(stores)["sum"]) == (5, 16)


def test_the_claim_of_a_load_that_died_does_not_keep_its_row_out(
    stores: Stores, years: Years, monkeypatch: pytest.MonkeyPatch
) -> None:
    years.write(row(10, id="z"))
    apply(stores, source(event_id="id", schema=[*SCHEMA, Field("id", String)]))
    years.write(row(1, id="a"), row(2, id="b"))

    def dying(*args: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(type(stores.offline), "append", dying)
        with pytest.raises(KeyboardInterrupt):
            backfill(stores, "prices")
    # The row that was first is now the second.
    years.write_anew(random.Random(1))
    years.write(row(0, id="0"))
    assert backfill(stores, "prices") == 3
    assert agreed(stores)["sum"] == 13


def test_what_is_not_loaded_is_said_and_an_empty_load_is_no_load(stores: Stores, years: Years) -> None:
    years.write()
    of = source()
    new = make_plan(stores, project_of(definitions(of)))
    said = [each for each in new.findings if "batch source 'old' are loaded" in each.found]
    assert [each.severity for each in said] == ["note"]
    apply(stores, of)

    def missing() -> list[str]:
        snapshot = stores.registry.load("shop")
        plan = make_plan(stores, project_of(definitions(of)))
        texts = [each.found for each in plan.findings if each.severity == "warning" and "are loaded" in each.found]
        texts += [each.text for each in doctor(stores) if not each.ok and "are loaded" in each.text]
        return [*texts, *filter(None, [not_loaded(stores, snapshot, of)])]

    assert missing() == ["no rows of its batch source 'old' are loaded, so training and serving lack them"] * 3
    assert backfill(stores, "prices") == 0
    assert len(missing()) == 3, "an empty load is no load"
    years.write(row(7))
    assert backfill(stores, "prices") == 1
    assert missing() == []
    assert agreed(stores)["sum"] == 7


def test_views_that_would_count_an_event_twice_are_told_at_plan(stores: Stores, years: Years) -> None:
    years.write(row(1, id="a"))

    def told(**options: Any) -> list[str]:
        schema = [*SCHEMA, Field("id", String)]
        plan = make_plan(stores, project_of(definitions(source(schema=schema, **options))))
        return [each.object for each in plan.findings if each.severity == "warning" and "counts twice" in each.found]

    assert told() == ["feature view 'ends'", "feature view 'windows'"]
    assert told(event_id="id") == []
    assert told(stream_from=moment(NOW)) == []


def test_a_column_that_is_declared_later_makes_no_row_a_new_one(stores: Stores, years: Years) -> None:
    years.write(row(1, shop="a", at=NOW - 2 * HOUR), row(2, shop="b", at=NOW - HOUR), row(2, shop="b", at=NOW - HOUR))
    apply(stores, source())
    wider = source(schema=[*SCHEMA, Field("shop", String)])
    apply(stores, wider)
    assert (backfill(stores, "prices"), agreed(stores)["n"]) == (0, 3)

    years.write(row(3, shop="c"), row(3, shop="d"))
    assert (backfill(stores, "prices"), agreed(stores)["n"]) == (2, 5)
    assert backfill(stores, "prices") == 0
    apply(stores, source())
    assert (backfill(stores, "prices"), agreed(stores)["n"]) == (0, 5)


def test_a_row_that_does_not_fit_refuses_the_load_before_anything_is_loaded(
    stores: Stores, years: Years, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_history, "PIECE_ROWS", 2)
    of = source(schema=[*SCHEMA, Field("note", Json)])
    years.write(row(1, note="{}"))
    apply(stores, of)
    years.write(*(row(price, note="{}") for price in range(5)), row(9, note="{bad"))

    with pytest.raises(
        RowsRefused, match=r"batch source 'old', which source 'prices' loads(?s:.)*column 'note', row 6:"
    ):
        backfill(stores, "prices")
    assert stores.offline.offsets(stores.archive_of(of), [HISTORY])[HISTORY] == load_history.BLOCK - 1


def test_only_rows_within_the_times_of_a_run_are_loaded(stores: Stores, years: Years) -> None:
    years.write()
    apply(stores, source())
    years.write(*(row(10**hour, at=NOW - hour * HOUR) for hour in range(1, 5)))
    materialize(stores, start=NOW - 3 * HOUR, end=NOW - HOUR)
    assert agreed(stores)["sum"] == 1100
    materialize(stores, end=NOW - HOUR)
    assert agreed(stores)["sum"] == 11100
    materialize(stores)
    assert agreed(stores)["sum"] == 11110


def test_with_a_created_time_only_rows_written_since_are_compared(
    stores: Stores, years: Years, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = [*SCHEMA, Field("written", Timestamp)]
    old = FileSource("old/*.parquet", name="old", timestamp_field="at", created_timestamp_column="written", lag="10m")
    of = source(batch_source=old, created_timestamp_column="written", schema=schema)
    years.write(*(row(price, at=NOW - price * HOUR, written=moment(NOW - price * HOUR)) for price in range(1, 9)))
    apply(stores, of)
    compared: list[int] = []
    add = ArchiveComparison.add_source
    monkeypatch.setattr(
        ArchiveComparison, "add_source", lambda self, rows: compared.append(rows.num_rows) or add(self, rows)
    )
    # Written within the lag of the last load, and long after it happened.
    years.write(row(100, at=NOW - 30 * HOUR, written=moment(NOW - 5 * MINUTE)))
    assert backfill(stores, "prices") == 1
    assert compared == [1]
    assert agreed(stores)["sum"] == sum(range(1, 9)) + 100


def test_history_from_a_moved_stream_from_on_does_not_count(
    stores: Stores, years: Years, pusher: Callable[..., None]
) -> None:
    years.write(row(1, at=NOW - 3 * HOUR), row(10, at=NOW - HOUR))
    apply(stores, source())
    assert agreed(stores)["sum"] == 11
    apply(stores, source(stream_from=moment(NOW - 2 * HOUR)))
    pusher(row(10, at=NOW - HOUR), row(100, at=NOW - 4 * HOUR))
    assert agreed(stores)["sum"] == 11
    apply(stores, source())
    assert agreed(stores)["sum"] == 121


def test_reads_warn_until_history_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    years = Years(tmp_path)
    years.write()
    of = source()
    frame = {"item": [1], "event_timestamp": [moment(NOW)]}
    with FeatureStore(tmp_path) as store:
        store.apply(definitions(of))
        with pytest.warns(HistoryNotLoaded, match="asof backfill prices"):
            store.get_online_features(["newest:price"], [{"item": 1}])
    with FeatureStore(tmp_path) as store:
        with pytest.warns(HistoryNotLoaded, match=r"source 'prices': no rows of its batch source 'old'"):
            store.get_historical_features(frame, ["newest:price"])
        for name in ("newest", "prices"):
            with pytest.warns(HistoryNotLoaded, match=r"source 'prices': no rows of its batch source 'old'"):
                store.sample(name, n=1)
        years.write(row(7))
        assert [each["loaded"] for each in store.materialize()] == [1, 1, 1]
    with FeatureStore(tmp_path) as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get_historical_features(frame, ["newest:price"]).to_arrow()["price"].to_pylist() == [7]
        assert store.get_online_features(["newest:price"], [{"item": 1}]).to_dict()["price"] == [7]


REPOSITORY = """
from asof import Entity, FeatureView, Field, FileSource, PushSource
from asof.types import Int64, Timestamp
item = Entity("item", ["item"])
columns = [Field("item", Int64), Field("price", Int64), Field("at", Timestamp)]
old = FileSource("old/*.parquet", name="old", timestamp_field="at")
prices = PushSource("prices", columns, "at", batch_source=old)
newest = FeatureView("newest", entities=[item], source=prices, schema=[Field("price", Int64)])
"""


def test_asof_apply_loads_what_came_since_also_where_no_definition_changed(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    (tmp_path / "features.py").write_text(REPOSITORY)
    years = Years(tmp_path)
    years.write()

    def asof(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "asof", *command], cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        )  # fmt: skip

    assert asof("apply", "--yes").returncode == 0
    said = asof("get", "online", "--features", "newest:price", "--key", "item=1")
    assert "warning: source 'prices': no rows of its batch source 'old' are loaded" in said.stderr
    years.write(row(7))
    done = asof("apply", "--yes", "--output", "json")
    assert (done.returncode, json.loads(done.stdout)["applied"]) == (0, False), done.stderr
    found = asof("get", "online", "--features", "newest:price", "--key", "item=1", "--output", "json")
    assert '"price": 7' in found.stdout or '"price":7' in found.stdout, found.stdout
    assert "warning" not in found.stderr


def test_rows_of_history_without_an_event_time_are_counted(stores: Stores, tmp_path: Path) -> None:
    times = pa.array([None, NOW - MINUTE, -62_135_596_800_000_001], pa.timestamp("us", "UTC"))
    (tmp_path / "old").mkdir(exist_ok=True)
    pq.write_table(pa.table({"item": [1, 2, 3], "price": [7, 8, 9], "at": times}), tmp_path / "old" / "rows.parquet")
    plan = make_plan(stores, project_of(definitions(source())))

    [warned] = [each for each in plan.findings if "event times" in each.expected]
    assert (warned.object, warned.severity) == ("source 'prices'", "warning")
    assert warned.found == "2 rows without one (null, infinite or outside)"
    apply_plan(stores, plan)
    done = materialize(stores)
    assert {each.undated for each in done} == {2}
