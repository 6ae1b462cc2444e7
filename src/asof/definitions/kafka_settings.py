"""Which of librdkafka's settings a definition may have: none that loads a library, runs a command or fetches a URL.

A definition is read from the registry on other machines, where nothing in it may do more than read a topic. The list
is of what is allowed, so that a setting that a newer librdkafka adds is refused until it is on it.

Source: https://github.com/confluentinc/librdkafka/blob/v2.16.0/CONFIGURATION.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

_ALLOWED = frozenset(
    """
    client.id client.rack
    security.protocol sasl.mechanism sasl.mechanisms sasl.username sasl.password
    ssl.ca.location ssl.ca.pem ssl.crl.location ssl.certificate.location ssl.certificate.pem
    ssl.key.location ssl.key.pem ssl.key.password ssl.keystore.location ssl.keystore.password
    ssl.cipher.suites ssl.curves.list ssl.sigalgs.list
    enable.ssl.certificate.verification ssl.endpoint.identification.algorithm
    broker.address.family broker.address.ttl connections.max.idle.ms
    reconnect.backoff.ms reconnect.backoff.max.ms retry.backoff.ms retry.backoff.max.ms
    metadata.max.age.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms
    topic.metadata.refresh.interval.ms topic.metadata.refresh.fast.interval.ms topic.metadata.refresh.sparse
    topic.metadata.propagation.max.ms
    socket.timeout.ms socket.connection.setup.timeout.ms socket.keepalive.enable socket.nagle.disable
    socket.send.buffer.bytes socket.receive.buffer.bytes socket.max.fails
    api.version.request api.version.request.timeout.ms api.version.fallback.ms broker.version.fallback
    message.max.bytes message.copy.max.bytes receive.message.max.bytes max.in.flight
    max.in.flight.requests.per.connection
    fetch.min.bytes fetch.max.bytes fetch.message.max.bytes max.partition.fetch.bytes fetch.wait.max.ms
    fetch.queue.backoff.ms fetch.error.backoff.ms queued.min.messages queued.max.messages.kbytes check.crcs
    heartbeat.interval.ms max.poll.interval.ms coordinator.query.interval.ms
    enable.metrics.push statistics.interval.ms log.connection.close
    queue.buffering.max.messages queue.buffering.max.kbytes queue.buffering.max.ms linger.ms
    queue.buffering.backpressure.threshold batch.num.messages batch.size sticky.partitioning.linger.ms
    compression.codec compression.type compression.level
    message.send.max.retries retries request.timeout.ms message.timeout.ms delivery.timeout.ms
    """.split()
)

SET_BY_ASOF = {
    "acks": "", "allow.auto.create.topics": "", "auto.offset.reset": "start= of the KafkaSource",
    "bootstrap.servers": "bootstrap_servers", "enable.auto.commit": "", "enable.auto.offset.store": "",
    "enable.idempotence": "", "enable.partition.eof": "", "group.id": "", "group.instance.id": "",
    "group.protocol": "", "isolation.level": "", "partition.assignment.strategy": "", "session.timeout.ms":
    "session_timeout_s", "transactional.id": "",
}  # fmt: skip
"""Settings that the log's guarantees depend on → the option to use instead."""

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Those that send a user and a password, and nothing else: Kerberos runs `kinit`, and OAuth fetches a token."""

_REASONS = (
    (r"plugin\.|ssl\.engine\.|ssl\.providers|ssl\.engine", "loads a library into the process"),
    (r"sasl\.kerberos\.", "is part of a command that librdkafka runs"),
    (r"sasl\.oauthbearer\.|enable\.sasl\.oauthbearer|https\.", "makes librdkafka fetch URLs, or read files"),
    (r"offset\.store\.", "writes files"),
)


def refusals(settings: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each setting that a definition may not have, with the reason."""
    for name, value in settings.items():
        if name in SET_BY_ASOF:
            # Refused where a client is made, with the option to use instead.
            continue
        if name not in _ALLOWED:
            reason = next((reason for pattern, reason in _REASONS if re.match(pattern, name)), "")
            near = get_close_matches(name, _ALLOWED, n=1, cutoff=0.8)
            yield name, reason or ("is not known" + (f"; did you mean {near[0]!r}?" if near else " to be harmless"))
        elif not isinstance(value, str | int | float | bool):
            yield name, f"is {type(value).__name__}, and no text, number or flag"
        elif name in ("sasl.mechanism", "sasl.mechanisms") and not _is_password(str(value)):
            yield name, f"is none of {', '.join(_MECHANISMS)}: others run a command or fetch a token"
    protocol = str(settings.get("security.protocol", "")).upper()
    if "SASL" in protocol and not {"sasl.mechanism", "sasl.mechanisms"} & settings.keys():
        yield "security.protocol", "without sasl.mechanism means Kerberos, which runs a command"


def _is_password(mechanism: str) -> bool:
    return mechanism.upper() in _MECHANISMS or re.fullmatch(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", mechanism) is not None


__all__ = ["SET_BY_ASOF", "refusals"]
