"""What a user writes, over the whole public face: mypy --strict and pyright accept it as it stands. It is not run.

`assert_type` holds what an editor is told; a type that became `Any` would fail there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_type

import pandas as pd
import polars as pl
import pyarrow as pa

import asof
from asof import (
    Aggregation,
    AsofError,
    AsyncClient,
    AvroFormat,
    BatchFeatureView,
    Client,
    CsvFormat,
    DeltaFormat,
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    JsonFormat,
    KafkaSource,
    LogSource,
    OnDemandFeatureView,
    ParquetFormat,
    PostgreSQLSource,
    PostgresSource,
    ProtoFormat,
    PushSource,
    RequestSource,
    Session,
    Sliding,
    StreamFeatureView,
    on_demand_feature_view,
)
from asof.errors import NotFound, RowsRefused
from asof.testing.clock import HandClock
from asof.testing.features import FeatureScript
from asof.types import Array, Bool, Decimal, Embedding, Float64, Int64, String, Timestamp

# ---- definitions ----

user = Entity("user", join_keys=["user_id"], description="who buys", tags={"team": "growth"}, owner="a@example.com")
schema = [Field("user_id", Int64), Field("amount", Float64, default=0.0), Field("at", Timestamp)]
kinds = [Field("tags", Array(String)), Field("price", Decimal(10, 2)), Field("vector", Embedding(3)), Field("ok", Bool)]

files = FileSource("orders.parquet", timestamp_field="at", file_format=ParquetFormat(), lag="1h")
csv = FileSource(path="orders.csv", name="csv", file_format=CsvFormat(), timestamp_field="at", field_mapping={"a": "b"})
delta = FileSource("orders", name="delta", file_format=DeltaFormat(), timestamp_field="at", lag=timedelta(hours=1))
table = PostgresSource("users", table="public.users", timestamp_field="at", created_timestamp_column="written")
query = PostgreSQLSource(name="q", query="SELECT 1", timestamp_field="at")
log = LogSource("visits", schema=schema, timestamp_field="at", message_format=JsonFormat(), allowed_lateness="2h")
topic = KafkaSource(
    "clicks", schema=schema, timestamp_field="at", topic="clicks", bootstrap_servers=["one:9092", "two:9092"],
    message_format=AvroFormat("{}"), start=datetime(2026, 1, 1, tzinfo=UTC), batch_source=files, event_id="id",
)  # fmt: skip
proto = KafkaSource("p", schema=schema, timestamp_field="at", message_format=ProtoFormat("package.module_pb2.Message"))
pushed = PushSource("payments", schema=schema, timestamp_field="at", batch_source=files)
asked = RequestSource("cart", schema=[Field("basket", Float64)])

profile = FeatureView("profile", entities=[user], source=files, schema=schema, ttl=timedelta(days=30), online=True)
visits = FeatureView(
    "visits", entities=user, source=log, delay="5m", boundary="exclusive",
    aggregations=[
        Aggregation("amount", "sum", name="spent_7d", window=Sliding("7d", hop="1h"), where="amount > 0"),
        Aggregation(function="count", name="session", window=Session(timedelta(minutes=30)), default=0),
        Aggregation("amount", "last_n", n=3, name="last"),
    ],
)  # fmt: skip
assert_type(BatchFeatureView("b", source=table), FeatureView)
assert_type(StreamFeatureView("s", source=topic), FeatureView)


@on_demand_feature_view(sources=[visits[["spent_7d"]], asked], schema=[Field("share", Float64)], mode="python")
def share(row: dict[str, float]) -> dict[str, float]:
    """How much of the week's spending this basket is."""
    return {"share": row["basket"] / row["spent_7d"]}


assert_type(share, OnDemandFeatureView)
doubled = OnDemandFeatureView("doubled", schema=[Field("d", Float64)], sources={"v": visits}, udf=lambda row: row)
model = FeatureService("model", [profile, visits[["spent_7d", "last"]], visits.with_name("again"), share, doubled])


def transform(message: Mapping[str, object]) -> Mapping[str, object] | None:
    return message or None


parsed = LogSource("parsed", schema=schema, timestamp_field="at", transform=transform)


# ---- the store ----


def watch(stage: str, done: int, total: int | None) -> None:
    print(stage, done, total)


def define(store: FeatureStore) -> None:
    plan = store.plan()
    for finding in plan.findings:
        print(finding.severity, finding.message, finding.hint)
    assert_type(plan.is_empty, bool)
    store.apply(plan, progress=watch)
    store.apply([user, profile])
    store.apply(visits)
    for view in store.list_feature_views():
        print(view.name, view.join_keys, view.feature_names, view["spent_7d"])
    assert_type(store.get_feature_view("visits"), FeatureView)
    assert_type(store.get_feature_service("model"), FeatureService)
    assert_type(store.get_on_demand_feature_view("share"), OnDemandFeatureView)
    print(store.get_entity("user").join_keys, store.get_source("visits").timestamp_field, store.list_entities())
    for commit in store.history(limit=5):
        assert_type(commit.when, datetime)
        print(commit.version, commit.who, commit.summary)


def train(store: FeatureStore, rows: pl.DataFrame, lazy: pl.LazyFrame, arrow: pa.Table, pandas: pd.DataFrame) -> None:
    result = store.get_historical_features(rows, model)
    assert_type(result.to_polars(), pl.DataFrame)
    print(result.to_df(), result.to_arrow(), result.to_sql(), result.schema)
    assert_type(result.write(Path("out.parquet")), int)
    for batch in result.to_batches(1000):
        print(batch)
    for row in result:
        assert_type(row["spent_7d"], object)
    manifest = result.save("march", overwrite=True)
    assert_type(manifest.rows, int)
    print(manifest["content_hash"])
    now = store.now()
    store.get_historical_features(pandas, model)
    store.get_historical_features(lazy, ["visits:spent_7d"], known_at=True)
    store.get_historical_features(arrow, "model", True, known_at=now)
    store.get_historical_features("SELECT user_id, at AS event_timestamp FROM visits", model, known_at="2026-01-01")
    store.get_historical_features(Path("entities.parquet"), visits)
    store.get_historical_features({"user_id": [1], "event_timestamp": [now]}, visits[["spent_7d"]])
    store.get_historical_features(features=[profile, visits[["last"]]], start_date=now, end_date="2026-02-01")
    # What verbs return are frames themselves.
    store.get_historical_features(store.sample("visits"), model)
    for saved in store.training_sets():
        assert_type(saved.rows, int)
        print(saved.name, saved.created)
    assert_type(store.training_set("march").rows, int)
    comparison = store.rebuild_training_set("march")
    assert_type(comparison.equal, bool)
    print(len(store.read_training_set("march")), comparison.differing_rows, comparison.why)


def serve(store: FeatureStore) -> None:
    response = store.get_online_features(model, [{"user_id": 7, "basket": 3.5}])
    store.get_online_features(["visits:spent_7d", "profile"], {"user_id": [7, 8]}, full_feature_names=True)
    store.get_online_features(visits[["last"]], pl.DataFrame({"user_id": [7]}))
    assert_type(response.to_dict()["spent_7d"], list[object])
    assert_type(response.statuses, dict[str, list[str]])
    assert_type(response.event_times["spent_7d"][0], datetime | None)
    assert_type(response.to_polars(), pl.DataFrame)
    print(response.to_df(include_event_timestamps=True), response.to_arrow(), response.to_numpy().shape, len(response))
    for row in response:
        print(row["spent_7d"], row.to_dict())


def write(store: FeatureStore) -> None:
    assert_type(store.push("payments", [{"user_id": 1, "amount": 2.5, "at": store.now()}], batch_id="till-3"), int)
    store.push("payments", pl.DataFrame({"user_id": [1], "amount": [2.5], "at": [store.now()]}))
    assert_type(store.send("visits", [b"{}"], keys=[b"1"]), list[tuple[int, int]])
    store.write_to_online_store("profile", {"user_id": [1]})
    for each in store.materialize(datetime(2026, 1, 1, tzinfo=UTC), "2026-02-01", ["profile"], full=True):
        assert_type(each.rows, int)
        assert_type(each.until, datetime)
        print(each["view"])
    store.materialize_incremental(progress=watch)
    assert_type(store.stream_run(["visits"], until_caught_up=True, progress=watch), dict[str, int])
    assert_type(store.backfill("visits"), int)
    assert_type(store.rebuild(["visits"]), dict[str, int])
    assert_type(store.compact().expired, int)
    assert_type(store.forget("user", 7).notes, list[str])
    print(store.forget("user", {"user_id": 7}).to_dict())


def look(store: FeatureStore) -> None:
    sample = store.sample(visits, n=5, seed=1, by="entities", online=True)
    for row in sample:
        print(row["user_id"], row.user_id)
    made = store.explain("visits:spent_7d", {"user_id": 7}, at="2026-01-01T00:00:00Z")
    assert_type(made.text, str)
    assert_type(made.at, datetime)
    print(made.value, [row.to_dict() for row in made], [each.reference for each in made.inputs])
    report = store.audit(["visits"], keys=10, seed=2)
    if not report.ok:
        for difference in report:
            print(difference.view, difference.key, difference.online, difference.historical, difference.cause)
    assert_type(report.differences[0].at, datetime)
    assert_type(store.source_schema("trips")[0].state, str)
    assert_type(store.version_changes(3).lines, Sequence[str])
    assert_type(store.training_set_changes("march"), list[str])
    for status in store.stream_status():
        assert_type(status.lag, int)
        assert_type(status.last_message, datetime | None)
    dead_letters = store.dead_letters("visits", limit=10)
    if dead_letters:
        assert_type(dead_letters[0].reason, str)
        assert_type(store.dead_letter(dead_letters[0].id).value, bytes | None)
        print(dead_letters[:2].to_dicts())
    assert_type(store.replay_dead_letters("visits", [each.id for each in dead_letters]).sent, int)
    for check in store.doctor():
        assert_type(check.ok, bool)
        print(check.part, check.text, check.hint)
    assert_type(store.doctor().to_polars(), pl.DataFrame)
    print(len(store.history()), store.served_features("model").to_df(), pl.DataFrame(store.stream_status()))


def run() -> None:
    clock = HandClock("2026-01-01T12:00")
    clock.move("90s")
    with FeatureStore(".", env="prod", clock=clock) as store:
        for verb in (define, serve, write, look):
            verb(store)
    with FeatureStore(fs_yaml_file=Path("other.yaml"), clock=lambda: datetime.now(UTC)) as other:
        print(other.project, other.config.path)
        try:
            other.push("payments", [])
        except RowsRefused as error:
            print(error.hint)
        except (NotFound, AsofError) as error:
            print(error.message, error.where, error.to_dict())
        other.refresh_registry()
        assert_type(other.teardown(purge=True), list[str])


def test_spending() -> None:
    with FeatureScript(visits, start="2026-01-01T10:00") as script:
        script.event("visits", at="2026-01-01T10:01", user_id=7, amount=2.5)
        assert script.features("visits", at=datetime(2026, 1, 1, 11), user_id=7) == {"spent_7d": 2.5}
        assert script.store.audit().ok


# ---- the client of a server ----


def ask() -> None:
    with Client("https://features.example.com", api_key="key", timeout_s=1.0) as client:
        response = client.get_online_features("model", [{"user_id": 7}], details=False)
        print(response.to_dict(), response.to_arrow(), client.health(), client.ready())
        assert_type(client.push("payments", [{"user_id": 1}], batch_id="till-4"), int)
        print(client.materialize(wait_s=10), client.job(client.start_materialize()), client.jobs())


async def ask_without_waiting() -> None:
    async with AsyncClient("https://features.example.com", token=lambda: "token") as client:
        response = await client.get_online_features(["visits:spent_7d"], {"user_id": [7]})
        print(response.statuses, await client.push("payments", [{"user_id": 1}]))


if __name__ == "__main__":
    run()
    ask()
    asyncio.run(ask_without_waiting())
    print(asof.__doc__)
