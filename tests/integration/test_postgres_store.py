"""A feature store on PostgreSQL, as a user has it: sources, registry and online store there, DuckDB computing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal as Number

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import AsofError, CheckFailed, SourceError
from asof.sources.postgres.reader import Scan

pytestmark = pytest.mark.integration

NOW = datetime(2026, 2, 1, tzinfo=UTC)
CONFIG = """
project: shop
registry: {{type: postgres, connection: shop}}
online_store: {{type: postgres, connection: shop}}
connections:
  shop: {{type: postgres, url: "{url}", connect_timeout_s: 3{more}}}
"""
FEATURES = """
from asof import *
from asof.types import *
user = Entity(name="user", join_keys=["user_id"])
users = PostgresSource(
    table="sales.users", timestamp_field="registered_at", created_timestamp_column="written_at", lag="1h",
)
orders = PostgreSQLSource(
    name="orders", query="SELECT * FROM sales.orders WHERE amount > 0", timestamp_field="ordered_at", connection_ref="shop",
)
visits = FileSource(name="visits", path="visits.parquet", timestamp_field="at", lag="1d")
user_profile = FeatureView(
    name="user_profile", entities=[user], source=users, schema=[Field("country", String), Field("tier", String)],
)
user_orders = FeatureView(
    name="user_orders", entities=[user], source=orders,
    aggregations=[
        Aggregation("amount", "sum", window=Sliding("7d"), name="spent_7d"),
        Aggregation("", "count", window=Sliding("7d"), name="orders_7d"),
    ],
)
user_visits = FeatureView(name="user_visits", entities=[user], source=visits, schema=[Field("page", String)])
"""
TABLES = """
CREATE SCHEMA sales;
CREATE TYPE sales.tier AS ENUM ('basic', 'gold');
CREATE TABLE sales.users (
    user_id int8, registered_at timestamptz, written_at timestamp, country text, tier sales.tier, valid_to timestamptz
);
CREATE TABLE sales.orders (id uuid DEFAULT gen_random_uuid(), user_id int4, ordered_at timestamptz, amount numeric(10,2));
INSERT INTO sales.users
SELECT n, timestamptz '2026-01-01 00:00+00' + n * interval '1 h', timestamp '2026-01-01' + n * interval '2 h', 'DE', 'gold',
    'infinity' FROM generate_series(1, 20) n;
INSERT INTO sales.orders (user_id, ordered_at, amount)
SELECT n % 20 + 1, timestamptz '2026-01-02 00:00+00' + n * interval '1 h', n / 100.0 FROM generate_series(0, 599) n;
"""


@pytest.fixture
def execute(postgres_url):
    def run(text, *arguments):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            return connection.execute(text, *arguments).rowcount

    return run


@pytest.fixture
def repo(tmp_path, postgres_url, execute):
    execute(TABLES)
    (tmp_path / "feature_store.yaml").write_text(CONFIG.format(url=postgres_url, more=""))
    (tmp_path / "features.py").write_text(FEATURES)
    moments = pa.array([datetime(2026, 1, 5, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC"))
    pq.write_table(
        pa.table({"user_id": [1, 2, 3], "at": moments, "page": ["a", "b", "c"]}), tmp_path / "visits.parquet"
    )
    return tmp_path


@pytest.fixture
def now():
    return {"at": NOW}


@pytest.fixture
def store(repo, now):
    with FeatureStore(repo, clock=lambda: now["at"]) as store:
        store.apply()
        yield store


def day(n, hour=0):
    return datetime(2026, 1, n, hour, tzinfo=UTC)


FEATURE_NAMES = [
    "user_profile:country",
    "user_profile:tier",
    "user_orders:spent_7d",
    "user_orders:orders_7d",
    "user_visits:page",
]


def test_postgres_and_files_meet_in_one_historical_read(store):
    frame = pa.table(
        {"user_id": [1, 2, 2], "event_timestamp": pa.array([day(1), day(10), day(3)], pa.timestamp("us", "UTC"))}
    )

    rows = store.get_historical_features(frame, FEATURE_NAMES).to_arrow().to_pylist()

    assert [row["country"] for row in rows] == [None, "DE", "DE"]
    assert [row["page"] for row in rows] == [None, "b", None]
    # Orders of user 2: n = 1, 21, 41, …: one each 20 h from 2026-01-02 01:00.
    counted = [n for n in range(1, 600, 20) if day(3) <= day(2) + timedelta(hours=n) <= day(10)]
    assert (rows[1]["orders_7d"], rows[1]["spent_7d"]) == (len(counted), Number(sum(counted)) / 100)


def test_entity_frames_by_sql_and_without_a_frame_read_postgres(store):
    sql = "SELECT user_id, ordered_at AS event_timestamp, amount FROM orders WHERE user_id = 3"
    from_sql = store.get_historical_features(sql, ["user_profile:tier", "user_orders:orders_7d"]).to_arrow()
    no_frame = store.get_historical_features(
        None, ["user_profile:tier"], start_date=day(1), end_date=day(1, 5)
    ).to_arrow()

    assert from_sql.num_rows == 30
    assert set(from_sql["tier"].to_pylist()) == {"gold"}
    assert no_frame["user_id"].to_pylist() == [1, 2, 3, 4]


def test_as_known_leaves_out_what_was_written_down_later(store):
    frame = pa.table({"user_id": [5], "event_timestamp": pa.array([day(1, 7)], pa.timestamp("us", "UTC"))})

    known = [
        store.get_historical_features(frame, ["user_profile:country"], known_at=known_at)
        .to_arrow()["country"]
        .to_pylist()
        for known_at in (None, True, day(1, 9), day(1, 10))
    ]

    assert known == [["DE"], [None], [None], ["DE"]]


def test_materialize_brings_the_online_rows_up_to_date_and_fetches_the_news_alone(store, execute, now, monkeypatch):
    fetched = []
    original = Scan.fetched

    def counted(self, *arguments):
        for batch in original(self, *arguments):
            fetched.append((self.source.name, batch.num_rows))
            yield batch

    monkeypatch.setattr(Scan, "fetched", counted)
    store.materialize()
    now["at"] += timedelta(hours=2)
    execute("INSERT INTO sales.users VALUES (7, '2026-02-01 00:30+00', '2026-02-01 00:40', 'FR', 'basic')")
    fetched.clear()
    store.materialize(feature_views=["user_profile"])

    answer = store.get_online_features(FEATURE_NAMES, {"user_id": [7, 8, 99]}).to_dict()

    assert (answer["country"], answer["tier"]) == (["FR", "DE", None], ["basic", "gold", None])
    assert answer["orders_7d"][2] == 0
    assert fetched == [("users", 1)]


@pytest.mark.parametrize("offline", ["duckdb", "postgres"])
def test_a_run_over_the_past_takes_late_rows_in_and_no_sum_goes_back(repo, now, execute, offline):
    if offline == "postgres":
        with (repo / "feature_store.yaml").open("a") as file:
            file.write("offline_store: {type: postgres, connection: shop}\n")
        (repo / "features.py").write_text(FEATURES.replace("visits.parquet", "").split("user_visits")[0].replace(
            'visits = FileSource(name="visits", path="", timestamp_field="at", lag="1d")', ""
        ))  # fmt: skip
    execute("TRUNCATE sales.orders")
    execute(
        "INSERT INTO sales.orders (user_id, ordered_at, amount) "
        "SELECT 1, timestamptz '2026-02-01 00:00+00' - n * interval '1 d', 99999999.99 FROM generate_series(0, 6) n"
    )
    past = {
        "start_date": NOW - timedelta(days=10),
        "end_date": NOW - timedelta(days=5),
        "feature_views": ["user_orders"],
    }
    with FeatureStore(repo, clock=lambda: now["at"]) as store:
        store.apply()

        def served():
            answer = store.get_online_features(FEATURE_NAMES[2:4], {"user_id": [1]}).to_dict()
            return answer["spent_7d"][0], answer["orders_7d"][0]

        store.materialize(feature_views=["user_orders"])
        assert served() == (Number("699999999.93"), 7)
        store.materialize(**past)
        assert served() == (Number("699999999.93"), 7)
        execute("INSERT INTO sales.orders (user_id, ordered_at, amount) VALUES (1, '2026-01-26 12:00+00', 0.07)")
        store.materialize(**past)
        assert served() == (Number("700000000.00"), 8)
        frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOW], pa.timestamp("us", "UTC"))})
        history = store.get_historical_features(frame, FEATURE_NAMES[2:4]).to_arrow().to_pylist()[0]
        assert (history["spent_7d"], history["orders_7d"]) == served()


def test_serving_equals_training_and_each_value_is_explained(store):
    store.materialize()

    assert all(not view["differences"] for view in store.audit().to_dict()["views"])
    assert len(store.sample("user_orders", n=5, seed=1)) == 5
    explained = store.explain("user_orders:spent_7d", {"user_id": 3}, at=day(10))
    assert explained.value is not None


def test_tables_that_change_while_definitions_stay_are_found_by_plan(store, execute):
    execute("ALTER TABLE sales.users DROP COLUMN tier; UPDATE sales.users SET user_id = NULL WHERE user_id < 4")
    execute("ALTER TABLE sales.orders RENAME COLUMN ordered_at TO orderd_at")

    plan = store.plan()

    errors = [str(finding) for finding in plan.errors]
    assert any("'tier'" in error and "user_profile" in error for error in errors)
    assert any("timestamp_field 'ordered_at'" in error and "'orderd_at'" in error for error in errors)
    with pytest.raises(CheckFailed, match="nothing was changed"):
        store.apply()


def test_null_keys_are_counted_by_the_server_unless_a_constraint_forbids_them(store, execute):
    execute("UPDATE sales.users SET user_id = NULL WHERE user_id < 4")
    execute("ALTER TABLE sales.orders ALTER COLUMN user_id SET NOT NULL")

    warnings = [str(finding) for finding in store.plan().findings if finding.severity == "warning"]

    assert len(warnings) == 1
    assert "no nulls in 'user_id', found 3 rows where it is null" in warnings[0]


# ---- What users get wrong ----


def refused(repo, text, *, kind=AsofError, features=None):
    """What `apply` says, with this connection."""
    if features:
        (repo / "features.py").write_text(features)
    (repo / "feature_store.yaml").write_text(f"project: shop\nconnections:\n  shop: {{type: postgres, {text}}}\n")
    with pytest.raises(kind) as caught, FeatureStore(repo, clock=lambda: NOW) as store:
        store.apply()
    with FeatureStore(repo, clock=lambda: NOW) as store:
        assert store.list_feature_views() == []
    return str(caught.value)


def test_a_server_that_is_not_there_is_named_with_its_setting(repo):
    said = refused(repo, 'url: "postgresql://me:hunter2@127.0.0.1:1/shop"', kind=CheckFailed)

    assert "PostgreSQL at 127.0.0.1:1, database 'shop' cannot be reached: Connection refused" in said
    assert "check host and port of connections.shop" in said
    assert "hunter2" not in said


def test_a_wrong_password_and_an_unknown_database_are_told_apart(repo, postgres, postgres_url):
    wrong = refused(repo, f'url: "{postgres_url}", password: hunter2')
    unknown = refused(repo, f'url: "{postgres_url}", database: shpo')

    assert "refuses user 'asof'" in wrong and "check user and password of connections.shop" in wrong
    assert 'database "shpo" does not exist' in unknown and "check database of connections.shop" in unknown
    assert "hunter2" not in wrong and postgres.url("x").split(":")[2].split("@")[0] not in wrong + unknown


def test_a_missing_table_is_named_with_one_that_is_near(repo, postgres_url):
    said = refused(repo, f'url: "{postgres_url}"', features=FEATURES.replace("sales.users", "sales.user"))

    assert "there is no table 'sales.user' in database" in said
    assert "did you mean 'sales.users'?" in said
    assert "features.py:" in said


def test_a_query_that_is_wrong_says_where(repo, postgres_url):
    said = refused(repo, f'url: "{postgres_url}"', features=FEATURES.replace("amount > 0", "amuont > 0"))

    assert "source 'orders'" in said and 'column "amuont" does not exist' in said


def test_a_missing_right_names_the_user_and_the_way_out(repo, postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres.execute("CREATE ROLE stranger LOGIN PASSWORD 'hunter2'")
    try:
        said = refused(repo, f'url: "{postgres.url(name, user="stranger", password="hunter2")}"')
    finally:
        postgres.execute("DROP ROLE stranger")

    assert "user 'stranger'" in said and "permission denied for schema sales" in said
    assert "grant it to 'stranger'" in said
    assert "hunter2" not in said


def test_a_certificate_that_nobody_vouches_for_names_the_settings(repo, postgres, postgres_url):
    said = refused(
        repo,
        f'url: "{postgres_url}", host: localhost, sslmode: verify-full, sslrootcert: "{postgres.certificates.other_ca}"',
    )

    assert "certificate verify failed" in said
    assert "check sslmode, sslrootcert, sslcert and sslkey of connections.shop" in said


def test_a_certificate_that_is_vouched_for_is_trusted(repo, postgres, postgres_url):
    text = f'url: "{postgres_url}", host: localhost, sslmode: verify-full, sslrootcert: "{postgres.certificates.ca}"'
    (repo / "feature_store.yaml").write_text(f"project: shop\nconnections:\n  shop: {{type: postgres, {text}}}\n")

    with FeatureStore(repo, clock=lambda: NOW) as store:
        assert not store.plan().errors


def test_a_server_that_insists_on_tls_is_told_from_a_wrong_password(private_service, repo):
    from tests.services import Postgres

    server = private_service(Postgres, hba=["hostssl all all 127.0.0.1/32 scram-sha-256"])
    server.create_database("shop")

    said = refused(repo, f'url: "{server.url("shop")}", sslmode: disable')

    assert "no encryption" in said
    assert "check sslmode, sslrootcert, sslcert and sslkey of connections.shop" in said


def test_a_slow_server_is_given_up_after_the_statement_timeout(repo, postgres_url):
    slow = FEATURES.replace("WHERE amount > 0", "WHERE pg_sleep(30) IS NOT NULL")
    (repo / "features.py").write_text(slow)
    (repo / "feature_store.yaml").write_text(CONFIG.format(url=postgres_url, more=", statement_timeout_s: 0.3"))

    with FeatureStore(repo, clock=lambda: NOW) as store, pytest.raises(SourceError) as caught:
        store.apply()
        store.get_historical_features(
            "SELECT user_id, ordered_at AS event_timestamp FROM orders", ["user_profile:tier"]
        ).to_arrow()

    assert "source 'orders'" in caught.value.message and "took too long" in caught.value.message
    assert "raise statement_timeout_s of connections.shop" in caught.value.hint


def test_a_server_without_a_connection_left_says_which_settings_matter(repo, postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1')
    with psycopg.connect(postgres_url):
        said = refused(repo, f'url: "{postgres_url}"')

    assert "too many connections" in said
    assert "max_connections of connections.shop" in said
