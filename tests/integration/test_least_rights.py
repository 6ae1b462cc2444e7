"""The rights that docs/how-to/production.md asks of servers are enough for all that a store does."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from asof import (
    Aggregation,
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    KafkaSource,
    PostgresSource,
    PushSource,
    Sliding,
)
from asof.types import Float64, Int64, String, Timestamp
from tests.services import Kafka, Redis

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "production.md").read_text()
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)

USER = Entity(name="user", join_keys=["user_id"])
USERS = PostgresSource(name="users", table="public.users", timestamp_field="registered_at")
CLICKS = KafkaSource(
    "clicks", topic="clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at"
)
PAYMENTS = PushSource(
    "payments", schema=[Field("user_id", Int64), Field("amount", Float64), Field("at", Timestamp)], timestamp_field="at"
)
VIEWS = [
    FeatureView(name="profile", entities=[USER], source=USERS, schema=[Field("country", String)]),
    FeatureView(
        name="clicked", entities=[USER], source=CLICKS,
        aggregations=[Aggregation("user_id", "count", window=Sliding("1h"), name="clicks_1h")],
    ),
    FeatureView(
        name="paid", entities=[USER], source=PAYMENTS,
        aggregations=[Aggregation("amount", "sum", window=Sliding("1d"), name="paid_1d")],
    ),
]  # fmt: skip
FEATURES = ["profile:country", "clicked:clicks_1h", "paid:paid_1d"]


@pytest.fixture
def kafka(private_service):
    """A broker on which nobody may do what no access list allows, with the page's lists."""
    kafka = private_service(Kafka, settings={"allow.everyone.if.no.acl.found": "false"})
    kafka.create_topic("clicks", 2)
    rows = re.findall(r"^\| (topics|groups|transactional ids)([^|]*)\| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 4
    lists = []
    for resource, which, rights in rows:
        prefix = re.search(r"prefix `([^`]*)`", which)
        kind = {"topics": ResourceType.TOPIC, "groups": ResourceType.GROUP}.get(resource, ResourceType.TRANSACTIONAL_ID)
        pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
        lists += [
            AclBinding(
                kind, prefix[1] if prefix else "clicks", pattern, "User:asof", "*",
                getattr(AclOperation, right.strip().upper()), AclPermissionType.ALLOW,
            )
            for right in rights.split(",")
        ]  # fmt: skip
    admin = kafka.admin()
    for made in admin.create_acls(lists).values():
        made.result(20)
    return kafka


@pytest.fixture
def redis(private_service):
    redis = private_service(Redis)
    (rights,) = re.findall(r"^ACL SETUSER asof on >secret (.*)$", (ROOT / "docs/how-to/redis.md").read_text(), re.M)
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "least", "on", ">least-secret", *rights.split())
    return redis


@pytest.fixture
def database(postgres, postgres_url):
    """The shop's database, in which Asof's role has what the page grants."""
    (grants,) = re.findall(r"^```sql\n(CREATE ROLE.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    name = postgres_url.rpartition("/")[2]
    role = f"least_{name[-8:]}"
    with psycopg.connect(postgres.url(name, user="postgres", password="admin-secret"), autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute("CREATE TABLE public.users (user_id bigint, registered_at timestamptz, country text)")
        connection.execute("CREATE TABLE public.orders (order_id bigint)")
        connection.execute("INSERT INTO public.users VALUES (7, '2026-11-01Z', 'Poland')")
        grants = re.sub(r"--.*", "", grants).replace("'…'", "'least-secret'")
        connection.execute(re.sub(r"\b(ROLE|AUTHORIZATION|TO) asof\b", rf"\1 {role}", grants))
        yield postgres.url(name, user=role, password="least-secret")
        connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_they_are_enough(tmp_path, database, kafka, redis):
    sasl = kafka.sasl()
    where = "\n".join(f"    {name}: {value}" for name, value in sasl.items() if name != "bootstrap.servers")
    (tmp_path / "feature_store.yaml").write_text(f"""
project: shop
registry: {{type: postgres, url: "{database}", schema: asof}}
offline_store: {{type: postgres, url: "{database}", schema: asof}}
online_store: {{type: redis, url: "redis://least:least-secret@127.0.0.1:{redis.port}/0"}}
log:
  type: kafka
  bootstrap_servers: {sasl["bootstrap.servers"]}
  settings:
{where}
""")
    from tests.integration.test_services_servers import send

    events = [b'{"user_id": 7, "at": "2026-11-25T11:30:00Z"}', b'{"user_id": 7, "at": "2026-11-25T11:59:00Z"}']
    send({"bootstrap.servers": kafka.bootstrap}, "clicks", *events)

    with FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply([USER, USERS, CLICKS, PAYMENTS, *VIEWS])
        store.stream_run(until_caught_up=True)
        store.materialize()
        store.push("payments", [{"user_id": 7, "amount": 2.5, "at": NOON - timedelta(minutes=1)}])
        online = store.get_online_features(FEATURES, [{"user_id": 7}]).to_dict()
        spine = {"user_id": [7], "event_timestamp": [NOON]}
        offline = store.get_historical_features(spine, FEATURES).to_arrow().to_pylist()[0]
        unwell = [check for check in store.doctor() if not check.ok]
        status = store.stream_status()
        audit = store.audit().to_dict()
        store.compact()
        assert store.rebuild(["clicked"])
        store.forget("user", 7)
        store.teardown(purge=True)

    for name, value in {"country": "Poland", "clicks_1h": 2, "paid_1d": 2.5}.items():
        assert online[name] == [value] and offline[name] == value
    assert unwell == []
    assert {row["lag"] for row in status} == {0}
    assert audit["differences"] == []
    assert [topic for topic in kafka.admin().list_topics(timeout=10).topics if not topic.startswith("__")] == ["clicks"]
