"""How the server runs: the `server:` section of `feature_store.yaml`, and what the command line puts over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from asof.errors import ConfigError, nearest


@dataclass(frozen=True)
class ServerSettings:
    """See the `server:` options of `asof.config.reference`, which have the same names."""

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
    backlog: int = 2048
    access_log: str = "none"
    tracing: str = "none"
    tls_cert: str = ""
    tls_key: str = ""
    tls_key_password: str = field(default="", repr=False)
    tls_client_ca: str = ""
    tls_client_certificates: str = ""
    feature_log_share: float = 0.0
    feature_log_services: Sequence[str] = ()
    feature_log_queue: int = 10_000
    feature_log_flush_s: float = 10.0

    def with_options(self, options: Mapping[str, Any]) -> ServerSettings:
        """The same with some options replaced; those that are None stay."""
        known = {each.name for each in fields(self)}
        return replace(self, **{name: value for name, value in options.items() if value is not None and name in known})

    def checked(self) -> ServerSettings:
        """The same, if its words are known.

        Raises:
            ConfigError: one is not.
        """
        for name, known in WORDS.items():
            word = getattr(self, name)
            if word not in known:
                raise ConfigError(
                    f"server.{name}: there is no {word!r}", hint=nearest(word, known) or f"write {' or '.join(known)}"
                )
        if self.feature_log_share > 1:
            raise ConfigError(f"server.feature_log_share: {self.feature_log_share:g} is above 1", hint="1 keeps all")
        return self


WORDS = {"access_log": ("none", "errors", "all"), "tracing": ("none", "otlp")}
