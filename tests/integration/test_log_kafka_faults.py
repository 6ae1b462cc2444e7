"""What goes wrong on the way to Kafka: one clear error each, in bounded time, that names the setting to change."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from asof.errors import ConfigError, LogError
from asof.log.kafka.log import KafkaLog
from asof.log.protocol import LogUnreachable, UnknownTopic
from tests.services import Kafka
from tests.services.processes import free_port

pytestmark = pytest.mark.integration

OpenLog = Callable[..., KafkaLog]


def now() -> int:
    return int(time.time() * 1e6)


@pytest.fixture
def open_log() -> Iterator[OpenLog]:
    opened: list[KafkaLog] = []

    def make(settings: dict[str, str] | str, **options: Any) -> KafkaLog:
        settings = {"bootstrap.servers": settings} if isinstance(settings, str) else dict(settings)
        servers = settings.pop("bootstrap.servers")
        opened.append(KafkaLog(servers, clock=now, settings=settings, **{"timeout_s": 3, **options}))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def refused(call: Callable[[], object], kind: type[LogError] = LogError) -> LogError:
    """The error of a call that is not to succeed, nor to take long."""
    began = time.monotonic()
    with pytest.raises(kind) as raised:
        call()
    assert time.monotonic() - began < 60
    assert raised.value.hint
    print(raised.value)
    return raised.value


def test_a_broker_that_is_not_there_is_named_with_the_setting_to_change(
    open_log: OpenLog, capfd: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    log = open_log(address)
    for call in (lambda: log.topics(), lambda: log.topic_id("x"), lambda: log.send("x", [b"v"], durable=True)):
        error = refused(call, LogUnreachable)
        assert address in error.message and "bootstrap_servers" in error.hint and error.may_pass
    # librdkafka has not a word on the error output, however long the broker is away.
    assert "rdkafka" not in capfd.readouterr().err


def test_a_host_that_does_not_exist_is_named(open_log: OpenLog) -> None:
    error = refused(lambda: open_log("no-such-host.invalid:9092").topics(), LogUnreachable)
    assert "no-such-host.invalid" in error.message and "bootstrap_servers" in error.hint


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_is_told_at_once_and_never_shown(kafka: Kafka, open_log: OpenLog, mechanism: str) -> None:
    assert open_log(kafka.sasl(mechanism)).topics() is not None
    log = open_log({**kafka.sasl(mechanism), "sasl.password": "hunter2"}, timeout_s=40)
    began = time.monotonic()
    error = refused(lambda: log.topic_id("x"))
    assert time.monotonic() - began < 30
    assert "sasl.password" in error.hint and "hunter2" not in str(error) and not error.may_pass


def test_a_listener_that_speaks_tls_is_told_from_one_that_does_not(kafka: Kafka, open_log: OpenLog) -> None:
    assert open_log(kafka.tls).topics() is not None
    plain_to_tls = refused(lambda: open_log(kafka.tls["bootstrap.servers"]).topic_id("x"))
    assert "security.protocol" in plain_to_tls.hint
    tls_to_plain = refused(lambda: open_log({**kafka.tls, "bootstrap.servers": kafka.bootstrap}).topic_id("x"))
    assert "security.protocol" in tls_to_plain.hint
    unknown_authority = {name: value for name, value in kafka.tls.items() if name != "ssl.ca.location"}
    untrusted = refused(lambda: open_log(unknown_authority).topic_id("x"))
    assert "ssl.ca.location" in untrusted.hint


def test_a_missing_topic_is_told_by_every_verb(kafka: Kafka, open_log: OpenLog, topic_prefix: str) -> None:
    log = open_log(kafka.bootstrap)
    refused(lambda: log.partitions(topic_prefix), UnknownTopic)
    refused(lambda: log.own_partition(topic_prefix), UnknownTopic)
    refused(lambda: log.offsets_at(topic_prefix, 1), UnknownTopic)


def test_a_user_without_rights_is_told_which(kafka: Kafka, open_log: OpenLog, topic_prefix: str) -> None:
    from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

    topic = f"{topic_prefix}secret"
    kafka.create_topic(topic)
    rule = AclBinding(
        ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, "User:somebody", "*", AclOperation.READ,
        AclPermissionType.ALLOW,
    )  # fmt: skip
    admin = kafka.admin()
    for made in admin.create_acls([rule]).values():
        made.result(10)
    log = open_log(kafka.sasl())

    error = refused(lambda: _until_refused(log, topic))

    assert "authoriz" in error.message.lower() and "Describe" in error.hint


def _until_refused(log: KafkaLog, topic: str) -> None:
    """Access lists reach a broker a moment after they were made."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        log.topic_id(topic)
        time.sleep(0.1)


def test_a_message_that_is_too_large_is_told_with_the_settings_that_allow_it(
    kafka: Kafka, open_log: OpenLog, topic_prefix: str
) -> None:
    kafka.create_topic(f"{topic_prefix}small", max_message_bytes=2000)
    log = open_log(kafka.bootstrap, topic_prefix=topic_prefix)
    error = refused(lambda: log.send("small", [random.randbytes(50_000), b"x"], durable=True))
    assert "max.message.bytes" in error.hint
    assert log.send("small", [b"fits"], durable=True)
    assert log.own_partition("small") == 0
    error = refused(lambda: log.send("small", [random.randbytes(50_000)], partition=0, durable=True))
    assert "max.message.bytes" in error.hint
    # Nothing of the refused transaction is seen, and the next one goes through.
    log.send("small", [b"fits too"], partition=0, durable=True)
    assert b"fits too" in log.read("small", 0, 0).values


def test_settings_that_cannot_be_are_refused_with_their_names(kafka: Kafka, open_log: OpenLog) -> None:
    with pytest.raises(ConfigError, match="no.such.setting"):
        open_log({"bootstrap.servers": kafka.bootstrap, "no.such.setting": "1"}).topics()
    with pytest.raises(ConfigError, match=r"auto\.offset\.reset.*set by Asof"):
        open_log({"bootstrap.servers": kafka.bootstrap, "auto.offset.reset": "latest"})
    with pytest.raises(ConfigError, match="bootstrap_servers"):
        KafkaLog(clock=now)


def test_a_topic_that_cannot_be_made_names_the_setting(kafka: Kafka, open_log: OpenLog, topic_prefix: str) -> None:
    log = open_log(kafka.bootstrap, replication_factor=3, topic_prefix=topic_prefix)
    assert "replication_factor" in refused(lambda: log.create("wide")).hint
    log = open_log(kafka.bootstrap, topic_settings={"no.such": "1"}, topic_prefix=topic_prefix)
    refused(lambda: log.create("odd"))


class _CutOff:
    """A client whose broker goes away while it looks at a topic."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.is_cut_off = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def list_topics(self, *arguments: Any, **options: Any) -> Any:
        if self.is_cut_off:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        return self._client.list_topics(*arguments, **options)


def test_a_broker_that_goes_away_while_a_grown_topic_is_looked_at_is_waited_for(
    kafka: Kafka, open_log: OpenLog, topic_prefix: str
) -> None:
    log = open_log(kafka.bootstrap, topic_prefix=topic_prefix)
    log.create("growing")
    consumer = log.subscribe("growing", f"{topic_prefix}group")
    cut_off = consumer._consumer = _CutOff(consumer._consumer)
    log._topics.grown(log.topic("growing"))

    error = refused(lambda: _until_raised(consumer), LogUnreachable)
    assert error.may_pass
    cut_off.is_cut_off = False
    deadline = time.monotonic() + 20
    while len(consumer.assignment()) < 2:
        assert time.monotonic() < deadline
        try:
            consumer.poll(10, 0.2)
        except LogUnreachable:
            pass
    consumer.close()


def _until_raised(consumer: Any) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        consumer.poll(10, 0.2)
