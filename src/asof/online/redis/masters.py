"""Locates masters and replicas: from the settings, from Sentinels, or from nodes of a cluster."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError, Sentinel, SlaveNotFoundError

from asof.online.redis.connection import ConnectionLost, ErrorReply, RedisConnection
from asof.online.redis.keys import SLOTS
from asof.online.redis.settings import Address, RedisSettings


@dataclass(frozen=True)
class SlotRange:
    """A range of slots with their master and its replicas."""

    first: int
    last: int
    master: Address
    replicas: tuple[Address, ...] = ()


def locate(settings: RedisSettings, *, before: Sequence[SlotRange]) -> list[SlotRange]:
    """The current slot ranges and their masters; a single server has all slots.

    Args:
        before: the previous result.

    Raises:
        ConnectionLost: no Sentinel or node is reachable.
        ErrorReply: the cluster has no slots.
    """
    if settings.kind == "sentinel":
        return _ask_sentinels(settings)
    if settings.kind == "cluster":
        return _ask_nodes(settings, before)
    return [SlotRange(0, SLOTS - 1, settings.addresses[0])]


def _ask_sentinels(settings: RedisSettings) -> list[SlotRange]:
    limits: dict[str, Any] = {
        "socket_timeout": settings.connect_timeout_s, "socket_connect_timeout": settings.connect_timeout_s,
        "username": settings.sentinel_username or None, "password": settings.sentinel_password or None,
    }  # fmt: skip
    if settings.tls:
        limits |= {
            "ssl": True, "ssl_ca_certs": settings.tls_ca or None, "ssl_certfile": settings.tls_cert or None,
            "ssl_keyfile": settings.tls_key or None,
            "ssl_cert_reqs": "required" if settings.tls_verify else "none",
            "ssl_check_hostname": settings.tls_verify,
        }  # fmt: skip
    sentinel = Sentinel(list(settings.addresses), sentinel_kwargs=limits)
    try:
        master = sentinel.discover_master(settings.sentinel_master)
        replicas: list[Address] = []
        if settings.replica_reads:
            try:
                replicas = sentinel.discover_slaves(settings.sentinel_master)
            except SlaveNotFoundError:
                pass
    except (MasterNotFoundError, RedisError, OSError) as error:
        raise ConnectionLost(settings.addresses[0], error, when="sentinels") from error
    finally:
        for each in sentinel.sentinels:
            each.close()
    return [SlotRange(0, SLOTS - 1, (str(master[0]), int(master[1])), tuple((str(h), int(p)) for h, p in replicas))]


def _ask_nodes(settings: RedisSettings, before: Sequence[SlotRange]) -> list[SlotRange]:
    """The slots, from the first node that responds; nodes known from before are tried, too.

    In a random order: a node that is cut off from the others returns outdated masters.
    """
    known = list(dict.fromkeys(each.master for each in before))
    random.shuffle(known)
    last: Exception | None = None
    for address in dict.fromkeys([*known, *settings.addresses]):
        try:
            connection = RedisConnection(address, settings)
        except ConnectionLost as error:
            last = error
            continue
        try:
            slots = connection.ask("CLUSTER", "SLOTS")
        except ConnectionLost as error:
            last = error
            continue
        finally:
            connection.close()
        if slots:
            return [_range(each, address[0]) for each in slots]
        last = ErrorReply(address, "CLUSTERDOWN the cluster has no slots")
    assert last is not None
    raise last


def _range(entry: list[Any], queried: str) -> SlotRange:
    first, last, master, *replicas = entry
    return SlotRange(
        int(first), int(last), _address(master, queried), tuple(_address(each, queried) for each in replicas)
    )


def _address(node: list[Any], queried: str) -> Address:
    host = node[0].decode() if node[0] else queried  # an empty host means the node that was asked
    return (host, int(node[1]))
