"""The whole flow with Postgres as offline store, beside DuckDB over the same tables: every value is the same."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import CheckFailed, EntityFrameError, RowsRefused
from asof.flows.stream.dead_letters import list_dead_letters
from asof.store import open_store_of
from tests.oracle import same

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = "model"

DEFINITIONS = """
from asof import (Aggregation, Entity, FeatureService, FeatureView, Field, LogSource, PostgresSource, PushSource,
                  RequestSource, Session, Sliding, on_demand_feature_view)
from asof.types import Array, Date, Decimal, Float64, Int64, Json, String, Timestamp

user = Entity("user", join_keys=["user_id"])
users = PostgresSource("users", table="users", timestamp_field="changed", created_timestamp_column="written")
orders = PostgresSource("orders", query="SELECT user_id, ordered_at, amount, price FROM orders",
                        timestamp_field="ordered_at")
traffic = LogSource("traffic", schema=[Field("user_id", Int64), Field("page", String), Field("at", Int64),
                                       Field("ms", Float64)],
                    timestamp_field="at", timestamp_unit="ms")
reviews = PushSource("reviews", [Field("user_id", Int64), Field("stars", Int64), Field("at", Timestamp)], "at")

profile = FeatureView("profile", entities=[user], source=users, ttl="60d", schema=[
    Field("country", String, default="none"), Field("score", Float64), Field("budget", Decimal(12, 2)),
    Field("tags", Array(String)), Field("born", Date), Field("more", Json), Field("kind", String), Field("id", String)])
bought = FeatureView("bought", entities=[user], source=orders, aggregations=[
    Aggregation("", "count", name="orders_7d", window=Sliding("7d")),
    Aggregation("amount", "sum", name="amount_7d", window=Sliding("7d")),
    Aggregation("price", "sum", name="price_ever"),
    Aggregation("amount * 2", "max", name="most", where="price > 10", window=Sliding("30d"))])
visits = FeatureView("visits", entities=[user], source=traffic, aggregations=[
    Aggregation("", "count", name="in_session", window=Session("30m")),
    Aggregation("", "count", name="listed", where="page = 'listing'", window=Session("30m")),
    Aggregation("page", "last", name="last_page", window=Sliding("1h")),
    Aggregation("page", "last_n", n=3, name="pages"),
    Aggregation("page", "count_distinct", name="kinds", window=Sliding("1d")),
    Aggregation("ms", "mean", name="ms_1d", window=Sliding("1d"))])
stars = FeatureView("stars", entities=[user], source=reviews, schema=[Field("stars", Int64)])
basket = RequestSource("basket", schema=[Field("basket", Float64)])


@on_demand_feature_view(sources=[profile[["score"]], basket], schema=[Field("ratio", Float64)], mode="python")
def ratios(inputs):
    return {"ratio": inputs["score"] / inputs["basket"] if inputs["score"] and inputs["basket"] else None}


model = FeatureService("model", features=[profile, bought, visits, stars, ratios])
"""


@pytest.fixture(scope="module")
def database(postgres) -> Iterator[str]:
    name = f"flow_{uuid.uuid4().hex}"
    url = postgres.create_database(name)
    fill(url)
    yield url
    postgres.drop_database(name)


def fill(url: str) -> None:
    """Users with corrections and ties, and orders; no index on orders, one on users."""
    rng = random.Random(1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TYPE kind AS ENUM ('new', 'old')")
        connection.execute(
            "CREATE TABLE users (user_id integer, changed timestamptz, written timestamp, country varchar(20), "
            "score real, budget numeric(12,2), tags text[], born date, more jsonb, kind kind, id uuid)"
        )
        connection.execute("CREATE INDEX ON users (user_id, changed)")
        connection.execute("CREATE TABLE orders (user_id bigint, ordered_at timestamp, amount bigint, price float8)")
        users = [
            (
                user, NOW - timedelta(days=rng.choice((1, 1, 2, 30, 61, 70)), hours=rng.randrange(3)),
                (NOW - timedelta(days=rng.randrange(3))).replace(tzinfo=None), rng.choice(("de", "Żż", "É", None, "")),
                rng.choice((None, 0.5, float("nan"), float("inf"))), rng.choice((None, "12.50", "-0.01")),
                rng.choice((None, [], ["a", None, "b"])), rng.choice((None, NOW.date())), rng.choice((None, '{"a": 1}')),
                rng.choice(("new", "old")), f"00000000-0000-0000-0000-{user:012d}",
            )
            for user in range(12) for _ in range(4)
        ]  # fmt: skip
        connection.cursor().executemany(f"INSERT INTO users VALUES ({', '.join(['%s'] * 11)})", users)
        orders = [
            (rng.randrange(12), (NOW - timedelta(minutes=rng.randrange(60_000))).replace(tzinfo=None),
             rng.choice((None, 1, 7, -3)), rng.choice((None, 0.1, 25.0, 1e9)))
            for _ in range(300)
        ]  # fmt: skip
        connection.cursor().executemany("INSERT INTO orders VALUES (%s, %s, %s, %s)", orders)


def events() -> list[dict[str, Any]]:
    rng = random.Random(2)
    made = [
        {
            "user_id": rng.randrange(12), "page": rng.choice(("listing", "product", "Żółw", None)),
            "at": int((NOW - timedelta(minutes=rng.randrange(3000))).timestamp() * 1000), "ms": rng.random(),
        }
        for _ in range(400)
    ]  # fmt: skip
    return [*made, {"user_id": None, "at": 5}, {"user_id": 1, "page": 3, "at": 7}]


class Story:
    """One store, and what it answered."""

    def __init__(self, folder: Path, yaml: str) -> None:
        folder.mkdir(parents=True)
        (folder / "feature_store.yaml").write_text(yaml)
        (folder / "features.py").write_text(DEFINITIONS)
        self.now = NOW
        self.store = FeatureStore(folder, clock=lambda: self.now)

    def run(self) -> dict[str, Any]:
        store = self.store
        plan = store.plan()
        assert not plan.errors, [str(each) for each in plan.errors]
        store.apply()
        open_store_of(store).stores.log.send("traffic", [json.dumps(each).encode() for each in events()], durable=False)
        at = [NOW - timedelta(hours=hours) for hours in (1, 30, 2, 0)]
        store.push("reviews", pa.table({"user_id": [1, 2, 2, 3], "stars": [5, 4, 3, None],
                                        "at": pa.array(at, pa.timestamp("us", "UTC"))}))  # fmt: skip
        store.stream_run(until_caught_up=True)
        store.materialize()
        answers: dict[str, Any] = {"historical": self.historical(), "sql": self.by_sql(), "range": self.by_range()}
        keys = {"user_id": [*range(13)], "basket": [float(each) for each in range(13)]}
        answers["online"] = store.get_online_features(MODEL, keys).to_arrow().to_pylist()
        report = store.audit(keys=50)
        assert report.ok and report.keys > 30, report.differences
        answers["explain"] = [
            (made.value, made.rows.num_rows, made.text.splitlines()[0])
            for made in (store.explain(name, {"user_id": 1}) for name in
                         ("visits:in_session", "bought:amount_7d", "profile:country", "stars:stars"))
        ]  # fmt: skip
        answers["sample"] = store.sample("visits", n=5, seed=3, by="entities").to_dicts()
        assert len(store.sample("profile", n=5, seed=3)) == 5
        answers["letters"] = [each["offset"] for each in store.dead_letters("traffic").to_dicts()]
        answers["training"] = self.training_set()
        status = [each for each in store.stream_status() if each["topic"] == "traffic"]
        assert sum(each["dead_letters"] for each in status) == 2 and not any(each["lag"] for each in status)
        before = store.get_online_features(MODEL, keys).to_arrow().to_pylist()
        assert store.rebuild() and store.compact()
        differ(before, store.get_online_features(MODEL, keys).to_arrow().to_pylist())
        found = store.forget("user", 1)
        answers["forgotten"] = (found["archive"], found["dead_letters"])
        answers["without"] = self.historical()
        assert [each.subject for each in store.doctor() if not each.ok and "lookup" in each.subject] == []
        return answers

    def frame(self) -> pa.Table:
        rng = random.Random(4)
        count = 60
        return pa.table(
            {
                "label": pa.array([rng.random() < 0.5 for _ in range(count)]),
                "user_id": pa.array([rng.randrange(14) for _ in range(count)], pa.int32()),
                "event_timestamp": pa.array(
                    [NOW - timedelta(minutes=rng.randrange(4000)) for _ in range(count)], pa.timestamp("ns", "UTC")
                ),
                "basket": pa.array([rng.choice((0.0, 2.0, None)) for _ in range(count)]),
            }
        )

    def historical(self) -> list[dict[str, Any]]:
        frame = self.frame()
        answer = self.store.get_historical_features(frame, MODEL).to_arrow()
        assert answer.select(frame.schema.names).equals(frame)
        known = self.store.get_historical_features(frame, MODEL, known_at=NOW - timedelta(days=1)).to_arrow()
        pq.write_table(frame, self.store.config.path / "frame.parquet")
        filed = self.store.get_historical_features(str(self.store.config.path / "frame.parquet"), MODEL).to_arrow()
        differ(answer.to_pylist(), filed.to_pylist())
        return [*answer.to_pylist(), *known.to_pylist()]

    def by_sql(self) -> list[dict[str, Any]]:
        text = """
            SELECT user_id, ordered_at AS event_timestamp, price AS basket FROM orders
            WHERE amount IS NOT NULL ORDER BY ordered_at, price, amount
        """
        return (
            self.store.get_historical_features(text, ["profile:country", "profile:budget", "visits", "ratios"])
            .to_arrow()
            .to_pylist()
        )

    def by_range(self) -> list[dict[str, Any]]:
        return (
            self.store.get_historical_features(
                None, ["visits", "stars"], start_date=NOW - timedelta(days=1), end_date=NOW
            )
            .to_arrow()
            .to_pylist()
        )

    def training_set(self) -> list[dict[str, Any]]:
        result = self.store.get_historical_features(self.frame(), MODEL)
        result.save("march")
        late = {"user_id": 3, "page": "late", "at": int((NOW - timedelta(days=1)).timestamp() * 1000)}
        open_store_of(self.store).stores.log.send("traffic", [json.dumps(late).encode()], durable=False)
        self.store.stream_run(until_caught_up=True)
        found = self.store.rebuild_training_set("march")
        assert found["equal"], found
        return self.store.read_training_set("march").to_dicts()


def differ(one: Any, other: Any, where: str = "") -> None:
    """Fail where two answers differ; floats may by their order of summing."""
    assert type(one) is type(other), (where, one, other)
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            differ(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), (where, one, other)
        for number, (a, b) in enumerate(zip(one, other)):
            differ(a, b, f"{where}[{number}]")
    else:
        assert same(one, other), (where, one, other)


@pytest.fixture(scope="module")
def stores(database: str, tmp_path_factory: Any) -> Iterator[dict[str, Story]]:
    root = tmp_path_factory.mktemp("flow")
    rest = "registry: data/registry.db\nonline_store: {type: sqlite, path: data/online.db}\n"
    made = {
        "postgres": Story(
            root / "postgres", f"project: shop\n{rest}offline_store: {{type: postgres, url: '{database}'}}\n"
        ),
        "duckdb": Story(
            root / "duckdb", f"project: shop\n{rest}connections: {{db: {{type: postgres, url: '{database}'}}}}\n"
        ),
    }
    yield made
    for each in made.values():
        each.store.close()


def test_the_whole_flow_answers_in_postgres_what_it_answers_in_duckdb(stores: dict[str, Story], database: str) -> None:
    answers = {name: story.run() for name, story in stores.items()}

    for name in answers["duckdb"]:
        differ(answers["duckdb"][name], answers["postgres"][name], name)
    assert len(answers["postgres"]["training"]) == 60
    assert "asof_s" in stores["postgres"].store.get_historical_features(stores["postgres"].frame(), MODEL).to_sql()

    store = stores["postgres"].store
    store.teardown(purge=True)
    with psycopg.connect(database) as connection:
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'asof'::regnamespace AND relkind = 'r' ORDER BY 1"
        ).fetchall()
    assert [name for (name,) in left] == ["asof_archives", "asof_offsets", "asof_tables", "asof_versions"]


def test_a_view_that_is_elsewhere_is_refused_by_plan(database: str, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"user_id": [1], "at": pa.array([NOW], pa.timestamp("us", "UTC")), "n": [1]}),
        tmp_path / "rows.parquet",
    )
    story = Story(tmp_path / "repo", f"project: elsewhere\noffline_store: {{type: postgres, url: '{database}'}}\n")
    (tmp_path / "repo" / "features.py").write_text(
        "from asof import Entity, FeatureView, FileSource\n"
        "rows = FileSource('../rows.parquet', name='rows', timestamp_field='at')\n"
        "seen = FeatureView('seen', entities=[Entity('user', join_keys=['user_id'])], source=rows)\n"
    )

    plan = story.store.plan()

    (finding,) = plan.errors
    assert "feature view 'seen'" in str(finding) and "found source 'rows' (file)" in str(finding)
    assert "PostgresSource" in finding.hint and "duckdb" in finding.hint
    with pytest.raises(CheckFailed):
        story.store.apply()
    story.store.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SELECT user_id, nope AS event_timestamp FROM orders", 'column "nope" does not exist'),
        ("SELECT user_id, ordered_at AS event_timestamp FROM order_", "reads 'order_', which is not an applied source"),
        ("SELECT user_id FROM FROM orders", 'near "FROM"'),
        ("SELECT 1/0 AS user_id, ordered_at AS event_timestamp FROM orders", "division by zero"),
        ("WITH gone AS (DELETE FROM orders RETURNING *) SELECT * FROM gone", "not one SELECT"),
    ],
)
def test_a_mistake_in_an_entity_frame_is_told_in_its_own_words(
    database: str, tmp_path: Path, text: str, says: str
) -> None:
    story = Story(tmp_path / "repo", f"project: mistakes\noffline_store: {{type: postgres, url: '{database}'}}\n")
    story.store.apply()

    with pytest.raises(EntityFrameError, match=says):
        story.store.get_historical_features(text, ["profile:country"]).to_arrow()
    story.store.close()


def test_one_text_that_postgres_cannot_keep_stops_nothing_else(database: str, tmp_path: Path) -> None:
    story = Story(tmp_path / "repo", f"project: nul\noffline_store: {{type: postgres, url: '{database}'}}\n")
    (tmp_path / "repo" / "features.py").write_text(
        "from asof import Entity, FeatureView, Field, LogSource, PushSource\n"
        "from asof.types import Array, Int64, String, Timestamp\n"
        "fields = [Field('user_id', Int64), Field('page', String), Field('tags', Array(String)), Field('at', Timestamp)]\n"
        "user = Entity('user', join_keys=['user_id'])\n"
        "page = Entity('page', join_keys=['page'])\n"
        "log = LogSource('log', schema=fields, timestamp_field='at')\n"
        "seen = FeatureView('seen', entities=[user], source=log)\n"
        "pages = FeatureView('pages', entities=[page], source=log)\n"
        "said = FeatureView('said', entities=[user], source=PushSource('pushes', schema=fields, timestamp_field='at'))\n"
    )
    store = story.store
    store.apply()
    good = {"user_id": 1, "page": "home", "tags": ["a"], "at": NOW - timedelta(hours=1)}
    bad = [{**good, "user_id": 2, "page": "a\0b"}, {**good, "user_id": 3, "tags": ["a", "\0"]}]
    messages = [json.dumps({**each, "at": str(each["at"])}).encode() for each in (good, *bad, {**good, "user_id": 4})]
    open_store_of(store).stores.log.send("log", messages, partition=0, durable=True)

    assert store.stream_run(["log"], until_caught_up=True)["dead letters"] == 2
    with pytest.raises(RowsRefused, match=r"row 1: column 'page': text with a NUL(.|\n)*row 2: column 'tags'"):
        store.push("pushes", [good, *bad])
    store.push("pushes", [good, {**good, "user_id": 4, "page": "\\u0000"}])

    frame = pa.table({"user_id": [1, 2, 3, 4], "event_timestamp": [NOW] * 4})
    history = store.get_historical_features(frame, ["seen:page", "said:page"], full_feature_names=True).to_arrow()
    assert history["seen__page"].to_pylist() == ["home", None, None, "home"]
    assert history["said__page"].to_pylist() == ["home", None, None, "\\u0000"]
    dead_letters = list_dead_letters(open_store_of(store).stores, "log", 10).to_dicts()
    assert sorted(each["offset"] for each in dead_letters) == [1, 2]
    assert all("NUL" in each["reason"] for each in dead_letters)
    with pytest.raises(EntityFrameError, match="text with a NUL character"):
        texts = pa.table({"page": ["\0"], "event_timestamp": [NOW]})
        store.get_historical_features(texts, ["pages:user_id"]).to_arrow()
    # What is no key never gets there.
    texts = pa.table({"user_id": [1], "more": ["\0"], "event_timestamp": [NOW]})
    assert store.get_historical_features(texts, ["seen:page"]).to_arrow()["more"].to_pylist() == ["\0"]
    store.close()
