"""The servers that tests run against are real, shared, and stand being killed."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
import pytest
import redis as redis_py
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from tests.services import Kafka, Postgres, Redis
from tests.services.processes import Process

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


def send(settings, topic, *values):
    producer = Producer({**settings, "message.timeout.ms": 15_000, "log_level": 2})
    failed = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: error and failed.append(error))
    producer.flush(20)
    if failed:
        raise KafkaException(failed[0])


def receive(settings, topic, count, partitions=1):
    consumer = Consumer({**settings, "group.id": f"{topic}-group", "log_level": 2})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    try:
        return [message.value() for message in consumer.consume(count, timeout=20)]
    finally:
        consumer.close()


def test_a_test_has_a_database_of_its_own(postgres_url):
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("asof",)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE tableowner = 'asof'").fetchone() == (0,)
        connection.execute("CREATE TABLE orders (id int)")


def test_postgres_proves_who_it_is(postgres):
    trusted = {"sslmode": "verify-full", "sslrootcert": str(postgres.certificates.ca)}
    strangers = {**trusted, "sslrootcert": str(postgres.certificates.other_ca)}

    with psycopg.connect(postgres.url("postgres", host="localhost", **trusted)) as connection:
        assert connection.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(postgres.url("postgres", host="localhost", **strangers))


def test_text_in_postgres_does_not_happen_to_sort_by_code_points(postgres_url):
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT 'a' < 'B', 'a' COLLATE \"C\" < 'B'").fetchone() == (True, False)


def test_a_durable_postgres_keeps_what_was_committed_when_it_is_killed(private_service):
    postgres = private_service(Postgres, fsync=True)
    url = postgres.create_database("shop")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders AS SELECT 7 AS id")

    postgres.restart(kill=True)

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT id FROM orders").fetchall() == [(7,)]


def test_a_standby_follows_and_takes_no_writes(private_service):
    primary = private_service(Postgres)
    url = primary.create_database("shop")
    standby = private_service(Postgres, **primary.standby_options)

    with psycopg.connect(standby.url("shop")) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("CREATE TABLE orders (id int)")
    assert url != standby.url("shop")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_redis_wants_a_password(redis, key_prefix, tls):
    url = redis.tls_url if tls else redis.url
    trust = {"ssl_ca_certs": str(redis.certificates.ca)} if tls else {}

    with redis_py.Redis.from_url(url, **trust) as client:
        assert client.set(f"{key_prefix}:a", 1, ex=60)
    wrong = url.replace("asof-secret", "wrong")
    with redis_py.Redis.from_url(wrong, **trust) as client, pytest.raises(redis_py.AuthenticationError):
        client.ping()


def test_redis_keeps_what_its_file_has_when_it_is_killed(private_service):
    redis = private_service(Redis, appendfsync="always")
    with redis.client() as client:
        client.set("a", 1)

    redis.restart(kill=True)

    with redis.client() as client:
        assert client.get("a") == b"1"


def test_a_paused_server_answers_when_it_goes_on(private_redis):
    with redis_py.Redis.from_url(private_redis.url, socket_timeout=0.3, retry=None) as client:
        private_redis.pause()
        with pytest.raises(redis_py.TimeoutError):
            client.ping()
        private_redis.resume()
        assert client.ping()


def test_sentinel_makes_the_replica_master_when_the_master_is_killed(private_redis_sentinel):
    first, second = private_redis_sentinel.master, private_redis_sentinel.replica
    with first.client() as client:
        client.set("a", 1)
        assert client.wait(1, 5000) == 1

    first.kill()
    private_redis_sentinel.wait_for_master(second)

    with second.client() as client:
        assert client.get("a") == b"1"


def test_a_cluster_has_three_masters_that_share_the_keys(redis_cluster, key_prefix):
    with redis_py.RedisCluster.from_url(redis_cluster.url) as client:
        keys = [f"{key_prefix}:{number}" for number in range(50)]
        for key in keys:
            client.set(key, 1, ex=60)
        assert len({client.get_node_from_key(key).port for key in keys}) == 3


@pytest.mark.parametrize("way", ["plain", "tls", "PLAIN", "SCRAM-SHA-256"])
def test_kafka_takes_messages_through_each_listener(kafka, topic_prefix, way):
    ways = {"plain": {"bootstrap.servers": kafka.bootstrap}, "tls": kafka.tls}
    settings = ways.get(way) or kafka.sasl(way)
    kafka.create_topic(f"{topic_prefix}traffic", 3)

    send(settings, f"{topic_prefix}traffic", b"1", b"2", b"3")

    assert sorted(receive(settings, f"{topic_prefix}traffic", 3, 3)) == [b"1", b"2", b"3"]
    kafka.delete_topic(f"{topic_prefix}traffic")


def test_kafka_makes_no_topic_on_its_own(kafka, topic_prefix):
    with pytest.raises(KafkaException) as raised:
        send(
            {"bootstrap.servers": kafka.bootstrap, "topic.metadata.propagation.max.ms": 200},
            f"{topic_prefix}nobody",
            b"1",
        )
    assert raised.value.args[0].code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


def test_kafka_keeps_its_messages_when_it_is_killed(private_service):
    kafka = private_service(Kafka, heap_mb=256)
    settings = {"bootstrap.servers": kafka.bootstrap}
    kafka.create_topic("traffic")
    send(settings, "traffic", b"1")

    kafka.restart(kill=True)

    send(settings, "traffic", b"2")
    assert receive(settings, "traffic", 2) == [b"1", b"2"]


def test_the_schema_registry_numbers_schemas(schema_registry, topic_prefix):
    subject = f"{schema_registry.url}/subjects/{topic_prefix}traffic-value"
    schema = json.dumps({"type": "record", "name": "View", "fields": [{"name": "user_id", "type": "long"}]})
    header = {"Content-Type": "application/vnd.schemaregistry.v1+json"}

    number = json.load(urlopen(Request(f"{subject}/versions", json.dumps({"schema": schema}).encode(), header)))["id"]

    assert json.load(urlopen(f"{schema_registry.url}/schemas/ids/{number}"))["schema"] == schema
    assert json.load(urlopen(f"{subject}/versions/latest"))["id"] == number


def test_the_schema_registry_can_want_a_password(schema_registry):
    with schema_registry.behind_password("reader", "secret") as url:
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"{url}/subjects")
        assert (
            urlopen(Request(f"{url}/subjects", headers={"Authorization": "Basic cmVhZGVyOnNlY3JldA=="})).status == 200
        )


def test_servers_end_with_the_process_that_wanted_them_even_if_it_is_killed(tmp_path):
    name = uuid.uuid4().hex[:8]
    script = (
        "import os, signal\n"
        "from tests.services import Redis, shared\n"
        "server = shared(Redis)\n"
        f"open({str(tmp_path / name)!r}, 'w').write(f'{{server.process.pid}} {{server.process.started}}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ASOF_TEST_RUN"}
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'src'}"

    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=False)

    pid, started = (tmp_path / name).read_text().split()
    assert Process(int(pid), started).wait(10)
