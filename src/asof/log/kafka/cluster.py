"""Access to a Kafka cluster: settings, admin calls with a timeout, and errors translated to `LogError`."""

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

from asof.definitions.kafka_settings import SET_BY_ASOF
from asof.errors import ConfigError, LogError
from asof.log.protocol import LogUnreachable, UnknownTopic
from asof.secrets import without_values

_DEFAULTS: dict[str, Any] = {
    # Otherwise every client prints to stderr, without end while a broker is unreachable. Errors come through error_cb,
    # and librdkafka's messages of this level go to a logger.
    "log_level": 0,
    "reconnect.backoff.max.ms": 2000,
    "allow.auto.create.topics": False,
    "client.id": "asof",
}

_LOGGER = logging.getLogger("asof.log.kafka.log")
_LOGGER.addHandler(logging.NullHandler())

_WAIT_STEP_S = 0.1


class Broker:
    """A Kafka cluster. Thread-safe.

    Args:
        servers: `host:port`; several separated by commas.
        settings: librdkafka's settings, passed through.
        timeout_s: time limit of a call.

    Raises:
        ConfigError: a setting is unknown, or set by Asof itself.
    """

    def __init__(self, servers: str, *, settings: Mapping[str, Any], timeout_s: float) -> None:
        if not servers:
            raise ConfigError("bootstrap_servers is missing for Kafka", hint="set bootstrap_servers: host:9092")
        for name, instead in SET_BY_ASOF.items():
            if name in settings:
                raise ConfigError(
                    f"Kafka's setting {name!r} is set by Asof itself",
                    hint=f"use {instead} instead" if instead else "remove it from the settings",
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
            preset: defaults, which the user's settings override.
            ours: settings that override the user's, with `_` for `.`.

        Raises:
            ConfigError: librdkafka rejects a setting.
        """
        fixed = {name.replace("_", "."): value for name, value in ours.items()}
        fixed |= {"bootstrap.servers": self.servers, "error_cb": self._note, "logger": _LOGGER}
        try:
            return kind({**_DEFAULTS, **(preset or {}), **self._settings, **fixed})
        except (KafkaException, ValueError, TypeError) as error:
            found = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise ConfigError(
                f"librdkafka rejects the Kafka settings: {without_values(found, self._settings)}",
                hint="check `settings` of the log section or connection, or kafka_settings= of the source; names are "
                "those of librdkafka",
            ) from error

    @property
    def admin(self) -> AdminClient:
        """The client for calls about topics and groups."""
        with self._lock:
            if self._admin is None:
                self._admin = self.made(AdminClient)
            return self._admin

    def _note(self, error: KafkaError) -> None:
        """Record connection errors of a client: a call that times out gives no reason."""
        # "All brokers are down" would hide the reason, which comes before or after it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._fault = (time.monotonic(), error)

    def ask_again(self, call: Callable[[], Future[Any]], doing: str, *, topic: str = "") -> Any:
        """The result of an admin call, retried while the responsible broker is changing."""
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
            LogError: it failed; the hint names the setting to change.
        """
        began = time.monotonic()
        while True:
            self.admin.poll(0)
            try:
                return future.result(timeout=_WAIT_STEP_S)
            except (FutureTimeout, TimeoutError) as error:
                # A refused password is not retried.
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
        """The error for an unreachable cluster, with its last connection error."""
        if error is None or error.code() in _SILENT:
            self.admin.poll(0)
            heard = self._fault[1] if self._fault is not None and time.monotonic() - self._fault[0] < 60 else None
            error = heard or error
        found = _plain(error) if error is not None else f"no response within {self.timeout_s:g} s"
        hint = _hint(error)
        says_why = error is not None and error.code() == KafkaError._TRANSPORT and "Disconnected" not in error.str()
        if error is None or (error.code() in _SILENT - _HINTS.keys() and not says_why):
            # A refused connection has a reason; one that is accepted and then closed has none.
            hint = "check bootstrap_servers and security.protocol, and that the broker runs"
        is_refused = error is not None and error.code() in _REFUSALS
        what = "refuses the connection" if is_refused else "does not respond"
        made = LogUnreachable(f"cannot {doing}: Kafka at {self.servers} {what}: {found}", hint=hint)
        made.may_pass = not is_refused
        return made

    def translated(self, error: KafkaError, doing: str, *, topic: str = "") -> LogError:
        """An error of librdkafka as a `LogError`."""
        code = error.code()
        if code in _UNKNOWN_TOPIC and topic:
            return UnknownTopic(topic, f"Kafka at {self.servers}")
        if code in _SILENT or code in _REFUSALS:
            return self.unreachable(doing, error)
        return LogError(f"cannot {doing}: Kafka at {self.servers} returned: {_plain(error)}", hint=_hint(error))

    def forget(self) -> list[Any]:
        """Drop the admin client without closing it: for a forked child."""
        admin, self._admin, self._lock = self._admin, None, threading.Lock()
        return [admin]


_SETTLING = {
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
}  # fmt: skip
"""Errors after which another broker, or this one shortly after, can serve the call."""

_SILENT = _SETTLING | {
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE,
    KafkaError._RESOLVE, KafkaError._MSG_TIMED_OUT, KafkaError.REQUEST_TIMED_OUT, KafkaError._WAIT_COORD,
    KafkaError.BROKER_NOT_AVAILABLE, KafkaError.NETWORK_EXCEPTION,
}  # fmt: skip
"""Errors of an unreachable or starting broker: a later call may succeed."""

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
    KafkaError.ILLEGAL_SASL_STATE: "set security.protocol to the protocol of the broker's listener",
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
    KafkaError.NOT_ENOUGH_REPLICAS: "start more brokers: the topic has fewer in-sync replicas than min.insync.replicas",
    KafkaError.KAFKA_STORAGE_ERROR: "check the broker's disks and its log",
}


def _hint(error: KafkaError | None) -> str:
    if error is None:
        return ""
    text = error.str()
    if "security.protocol" in text or "SSL listener" in text or "PLAINTEXT" in text:
        return "set security.protocol in its settings to the protocol of the broker's listener"
    hint = _HINTS.get(error.code())
    if hint is None and error.code() in _SILENT:
        hint = "check bootstrap_servers, and that the broker runs"
    return hint or "check the broker's log"


def _plain(error: KafkaError) -> str:
    """librdkafka's message, without thread names and timings."""
    text = error.str().removeprefix("Broker: ").removeprefix("Local: ")
    _, _, after = text.partition("/bootstrap: ")
    plain = (after or text).partition(" (after ")[0]
    return plain if not plain.endswith(": ") else f"{plain}{error.name()}"


def is_kafka(error: LogError, name: str) -> bool:
    """Whether a `LogError` was translated from the Kafka error with this name."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].name() == name


__all__ = ["Broker", "is_kafka"]
