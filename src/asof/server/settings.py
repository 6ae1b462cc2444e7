"""How the server runs: the `server:` section of `feature_store.yaml`, and what the command line puts over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that nobody but this machine reaches."""


@dataclass(frozen=True)
class ServerSettings:
    """See the `server:` options of `asof.config.reference`, which have the same names.

    Args:
        security: the group of that name, as written; `asof.server.security` reads it.
        feature_logging: the group of that name, as written; `asof.server.served` reads it.
    """

    host: str = "127.0.0.1"
    port: int = 6566
    workers: int = 1
    max_body_bytes: int = 16 << 20
    max_rows: int = 10_000
    max_waiting: int = 512
    max_connections: int = 4096
    receive_timeout_s: float = 10.0
    request_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    graceful_s: float = 30.0
    function_timeout_s: float = 2.0
    function_threads: int = 4
    registry_refresh_s: float = 1.0
    access_log: str = "none"
    tracing: str = "none"
    security: Mapping[str, Any] = field(default_factory=dict)
    feature_logging: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, options: Mapping[str, Any]) -> ServerSettings:
        """The same with some options replaced; those that are None stay."""
        known = {each.name for each in fields(self)}
        return replace(self, **{name: value for name, value in options.items() if value is not None and name in known})
