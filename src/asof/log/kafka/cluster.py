"""The way to a Kafka cluster: its settings, admin calls with a bounded wait, and its errors in our words."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from asof.errors import ConfigError, LogError
from asof.log.protocol import LogUnreachable, UnknownTopic

_OURS = {
    "acks": "", "allow.auto.create.topics": "", "auto.offset.reset": "start= of the KafkaSource",
    "bootstrap.servers": "bootstrap_servers", "enable.auto.commit": "", "enable.auto.offset.store": "",
    "enable.idempotence": "", "enable.partition.eof": "", "group.id": "", "group.instance.id": "",
    "group.protocol": "", "isolation.level": "", "partition.assignment.strategy": "", "session.timeout.ms":
    "session_timeout_s", "transactional.id": "",
}  # fmt: skip
"""Settings that the promises of the log rest on, and what to give in their place."""

_DEFAULTS: dict[str, Any] = {
    # Every client prints to stderr otherwise, endlessly while a broker is away; errors come through error_cb, and
    # what librdkafka says at this level still goes to a logger.
    "log_level": 0,
    "reconnect.backoff.max.ms": 2000,
    "allow.auto.create.topics": False,
    "client.id": "asof",
}

_LOGGER = logging.getLogger("asof.log.kafka.log")
_LOGGER.addHandler(logging.NullHandler())

_WAIT_STEP_S = 0.1


class Broker:
    """One cluster as this process reaches it. Safe to use from several threads.

    Args:
        servers: `host:port`, several with commas.
        settings: librdkafka's, by their own names, passed through.
        timeout_s: how long any one call may take.

    Raises:
        ConfigError: a setting is unknown, or is one that Asof sets.
    """

    def __init__(self, servers: str, *, settings: Mapping[str, Any], timeout_s: float) -> None:
        if not servers:
            raise ConfigError("Kafka needs bootstrap_servers", hint="give bootstrap_servers: host:9092")
        for name, instead in _OURS.items():
            if name in settings:
                raise ConfigError(
                    f"Kafka's setting {name!r} is set by Asof itself",
                    hint=f"give {instead} instead" if instead else "leave it out",
                )
        self.servers = servers
        self.timeout_s = timeout_s
        self._settings = dict(settings)
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None
        self._fault: tuple[float, KafkaError] | None = None

    def made(self, kind: Any, *, preset: Mapping[str, Any] | None = None, **ours: Any) -> Any:
        """A client of this kind (`Consumer`, `Producer`, `AdminClient`).

        Args:
            preset: settings that the user's own ones override.
            ours: settings that hold whatever the user says, with `_` in place of `.`.

        Raises:
            ConfigError: librdkafka does not take a setting.
        """
        fixed = {name.replace("_", "."): value for name, value in ours.items()}
        fixed |= {"bootstrap.servers": self.servers, "error_cb": self._note, "logger": _LOGGER}
        try:
            return kind({**_DEFAULTS, **(preset or {}), **self._settings, **fixed})
        except (KafkaException, ValueError, TypeError) as error:
            found = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise ConfigError(
                f"Kafka's settings are not well formed: {found}",
                hint="check `settings` of the log section or connection (kafka_settings= of a source); their names "
                "are librdkafka's",
            ) from error

    @property
    def admin(self) -> AdminClient:
        """The client for calls about topics and groups."""
        with self._lock:
            if self._admin is None:
                self._admin = self.made(AdminClient)
            return self._admin

    def _note(self, error: KafkaError) -> None:
        """Remember what a client says about its connections: a call that times out does not say why."""
        # "All brokers are down" hides the reason that is heard before or after it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._fault = (time.monotonic(), error)

    def ask_again(self, call: Callable[[], Future[Any]], doing: str, *, topic: str = "") -> Any:
        """The result of an admin call, made again while the broker that knows it is only just taking its place."""
        deadline = time.monotonic() + self.timeout_s
        while True:
            try:
                return self.ask(call(), doing, topic=topic)
            except LogUnreachable as error:
                cause = error.__cause__
                is_settling = isinstance(cause, KafkaException) and cause.args[0].code() in _SETTLING
                if not is_settling or time.monotonic() > deadline:
                    raise
                time.sleep(_WAIT_STEP_S)

    def ask(self, future: Future[Any], doing: str, *, topic: str = "") -> Any:
        """The result of an admin call.

        Raises:
            LogError: it failed; the message names the setting to change.
        """
        began = time.monotonic()
        while True:
            self.admin.poll(0)
            try:
                return future.result(timeout=_WAIT_STEP_S)
            except (FutureTimeout, TimeoutError) as error:
                # A refused password does not get better by waiting for it.
                refused = self._refused_since(began)
                if refused is not None or time.monotonic() - began > self.timeout_s:
                    raise self.unreachable(doing, refused) from error
            except KafkaException as error:
                raise self.translated(error.args[0], doing, topic=topic) from error

    def _refused_since(self, began: float) -> KafkaError | None:
        if self._fault is not None and self._fault[0] >= began and self._fault[1].code() in _REFUSALS:
            return self._fault[1]
        return None

    def unreachable(self, doing: str, error: KafkaError | None = None) -> LogUnreachable:
        """The error for a cluster that does not respond, with what was last heard of it."""
        if error is None or error.code() in _SILENT:
            self.admin.poll(0)
            heard = self._fault[1] if self._fault is not None and time.monotonic() - self._fault[0] < 60 else None
            error = heard or error
        found = _plain(error) if error is not None else f"no answer within {self.timeout_s:g} s"
        hint = _hint(error)
        says_why = error is not None and error.code() == KafkaError._TRANSPORT and "Disconnected" not in error.str()
        if error is None or (error.code() in _SILENT - _HINTS.keys() and not says_why):
            # A connection that is refused says so; one that is taken and dropped does not say why.
            hint = "check bootstrap_servers and security.protocol, and that the broker runs"
        is_refused = error is not None and error.code() in _REFUSALS
        what = "refuses the connection" if is_refused else "does not answer"
        made = LogUnreachable(f"cannot {doing}: Kafka at {self.servers} {what}: {found}", hint=hint)
        made.may_pass = not is_refused
        return made

    def translated(self, error: KafkaError, doing: str, *, topic: str = "") -> LogError:
        """An error of librdkafka in our words."""
        code = error.code()
        if code in _UNKNOWN_TOPIC and topic:
            return UnknownTopic(topic, f"Kafka at {self.servers}")
        if code in _SILENT or code in _REFUSALS:
            return self.unreachable(doing, error)
        return LogError(f"cannot {doing}: Kafka at {self.servers} answered: {_plain(error)}", hint=_hint(error))

    def forget(self) -> list[Any]:
        """Let go of the admin client without ending it, for a forked child."""
        admin, self._admin, self._lock = self._admin, None, threading.Lock()
        return [admin]


_SETTLING = {
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}  # fmt: skip
"""Another broker, or this one in a moment, can serve the call."""

_SILENT = _SETTLING | {
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE,
    KafkaError._RESOLVE, KafkaError._MSG_TIMED_OUT, KafkaError.REQUEST_TIMED_OUT, KafkaError._WAIT_COORD,
    KafkaError.BROKER_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION,
}  # fmt: skip
"""No response, or no broker that could give one yet: it may come later."""

_REFUSALS = {
    KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL,
    KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.ILLEGAL_SASL_STATE,
}  # fmt: skip

_UNKNOWN_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID,
}  # fmt: skip

_HINTS: dict[int, str] = {
    KafkaError._AUTHENTICATION: "check sasl.mechanism, sasl.username and sasl.password in its settings",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check sasl.mechanism, sasl.username and sasl.password in its settings",
    KafkaError.UNSUPPORTED_SASL_MECHANISM: "set sasl.mechanism to one that the broker offers",
    KafkaError.ILLEGAL_SASL_STATE: "set security.protocol to what the broker's listener speaks",
    KafkaError._SSL: "check security.protocol, ssl.ca.location and the certificate's host name",
    KafkaError._RESOLVE: "check the host name in bootstrap_servers",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let its user (sasl.username, or the certificate's) Read, Write and "
    "Describe the topic, or Create it",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "let its user Read and Describe groups with the prefix 'asof.'",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "let its user Write and Describe transactional ids with the "
    "prefix 'asof.'",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "let its user Create topics and write idempotently (IdempotentWrite), "
    "or create the topic yourself",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise max.message.bytes of the topic (message.max.bytes of the broker)",
    KafkaError.INVALID_RECORD: "raise the topic's message.timestamp.after.max.ms, if record times are ahead of the "
    "broker's clock; or give each record a key, if the topic is compacted",
    KafkaError.INVALID_TIMESTAMP: "raise the topic's message.timestamp.after.max.ms: record times are ahead of the "
    "broker's clock",
    KafkaError.INVALID_REPLICATION_FACTOR: "set replication_factor to at most the number of brokers",
    KafkaError.INVALID_PARTITIONS: "set partitions to a number above 0",
    KafkaError.POLICY_VIOLATION: "set partitions and replication_factor to what the cluster allows",
    KafkaError.NOT_ENOUGH_REPLICAS: "bring more brokers up: the topic has fewer replicas in sync than "
    "min.insync.replicas",
    KafkaError.KAFKA_STORAGE_ERROR: "look at the broker's disks and its log",
}


def _hint(error: KafkaError | None) -> str:
    if error is None:
        return ""
    text = error.str()
    if "security.protocol" in text or "SSL listener" in text or "PLAINTEXT" in text:
        return "set security.protocol in its settings to what the broker's listener speaks"
    hint = _HINTS.get(error.code())
    if hint is None and error.code() in _SILENT:
        hint = "check bootstrap_servers, and that the broker runs"
    return hint or "look at the broker's log"


def _plain(error: KafkaError) -> str:
    """What librdkafka says, without its own bookkeeping (thread names, timings)."""
    text = error.str().removeprefix("Broker: ").removeprefix("Local: ")
    _, _, after = text.partition("/bootstrap: ")
    plain = (after or text).partition(" (after ")[0]
    return plain if not plain.endswith(": ") else f"{plain}{error.name()}"


def is_kafka(error: LogError, name: str) -> bool:
    """Whether an error of ours stands for Kafka's of this name."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].name() == name


__all__ = ["Broker", "is_kafka"]
