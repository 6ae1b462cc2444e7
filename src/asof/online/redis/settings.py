"""Connection settings of Redis: parsed from a URL, from Feast's connection string, or from single options."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from asof.defaults import REDIS_CONNECT_S, REDIS_CONNECTIONS, REDIS_RETRY_S, REDIS_TIMEOUT_S, SENTINEL_MASTER
from asof.errors import ConfigError, nearest

SECTION = "online_store"
DEFAULT_PORT = 6379
KINDS = {"redis": "single", "redis_sentinel": "sentinel", "redis_cluster": "cluster"}
"""Feast's `redis_type` → kind of deployment."""

_SCHEMES = {"redis": False, "rediss": True, "unix": False}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")

_ESCAPE = "write special characters of a password as %40, %2F and so on"

Address = tuple[str, int]
"""Host and port; for a Unix socket, its path and 0."""


@dataclass(frozen=True)
class RedisSettings:
    """Settings for connections. Its `repr` hides passwords.

    Args:
        kind: `single`, `sentinel` or `cluster`.
        addresses: the server, the sentinels, or some nodes of the cluster.
        tls_verify: check the server's certificate against `tls_ca` and the host name.
        timeout_s: time limit for a reply.
        retry_s: how long a call is retried while servers restart or fail over.
    """

    kind: str
    addresses: tuple[Address, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_verify: bool = True
    sentinel_master: str = SENTINEL_MASTER
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    timeout_s: float = REDIS_TIMEOUT_S
    connect_timeout_s: float = REDIS_CONNECT_S
    retry_s: float = REDIS_RETRY_S
    max_connections: int = REDIS_CONNECTIONS
    replica_reads: bool = False
    setting: str = f"{SECTION}.url"
    _contexts: list[ssl.SSLContext] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def place(self) -> str:
        """The address, without secrets."""
        where = ",".join(shown(each) for each in self.addresses)
        if self.kind == "sentinel":
            return f"{self.sentinel_master} of the sentinels {where}"
        return f"cluster {where}" if self.kind == "cluster" else where

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context of connections; None without TLS. The first call reads the certificates, for all connections.

        Raises:
            ConfigError: a certificate or key is unreadable.
        """
        if not self.tls:
            return None
        if self._contexts:
            return self._contexts[0]
        try:
            context = ssl.create_default_context(cafile=self.tls_ca or None)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert, self.tls_key or None)
        except (OSError, ssl.SSLError) as error:
            files = [each for each in (self.tls_ca, self.tls_cert, self.tls_key) if each]
            raise ConfigError(
                f"the TLS files of the online store cannot be read: {error.strerror or error} ({', '.join(files)})",
                hint=f"check `{SECTION}.tls_ca`, `tls_cert` and `tls_key`",
            ) from error
        if not self.tls_verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._contexts.append(context)
        return context


def shown(address: Address) -> str:
    """`host:port`, or the path of a Unix socket."""
    host, port = address
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def settings_of(
    *, url: str = "", connection_string: str = "", redis_type: str = "redis", password: str = "", **options: Any
) -> RedisSettings:
    """Settings from the options of `online_store`; single options override those in the address.

    Raises:
        ConfigError: the address is malformed, or options exclude each other.
    """
    if redis_type not in KINDS:
        raise _wrong("redis_type", repr(redis_type), nearest(redis_type, KINDS) or f"choose one of {', '.join(KINDS)}")
    if url and connection_string:
        raise _wrong("url", "together with connection_string", "keep one of them")
    if url:
        settings = _of_url(url, KINDS[redis_type])
    else:
        settings = _of_connection_string(connection_string or f"localhost:{DEFAULT_PORT}", KINDS[redis_type])
    given = {name: value for name, value in options.items() if value is not None}
    if password:
        given["password"] = password
    settings = replace(settings, **given)
    if settings.kind == "cluster" and settings.db:
        raise _wrong("db", str(settings.db), "a Redis Cluster has only database 0: remove `db`")
    named = [name for name in ("tls_ca", "tls_cert", "tls_key") if getattr(settings, name)]
    if named and not settings.tls:
        raise _wrong(named[0], "without TLS", "use rediss:// in the url, or ssl=true in connection_string")
    if settings.username and not settings.password:
        raise _wrong("username", "without a password", "set `password: ${REDIS_PASSWORD}`")
    return settings


def _of_url(url: str, kind: str) -> RedisSettings:
    """`redis://user:password@host:port/db`, with TLS `rediss://…`; `unix:///path?db=0`; several hosts are allowed."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise _wrong("url", f"scheme {scheme!r}" if separator else "no scheme", "use redis:// or rediss://")
    try:
        parsed = urlsplit(f"//{rest}")
    except ValueError as error:
        raise _wrong("url", "brackets without a valid IPv6 address", _ESCAPE) from error
    if "@" in parsed.path + parsed.query + parsed.fragment:
        # The text before it may be a password with an unescaped `/`, `?` or `#`.
        raise _wrong("url", "an '@' after the address", _ESCAPE)
    user_info, _, hosts = parsed.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    query = dict(parse_qsl(parsed.query))
    if unknown := sorted(query.keys() - {"db"}):
        raise _wrong("url", f"the parameter {unknown[0]!r}", "set options as keys of the section, not in the url")
    if scheme == "unix":
        addresses: tuple[Address, ...] = ((unquote(parsed.path), 0),)
        db = query.get("db", "0")
    else:
        addresses = _addresses(hosts.split(","), "url")
        db = query.get("db") or parsed.path.strip("/") or "0"
    return RedisSettings(
        kind, addresses, username=unquote(user), password=unquote(password), db=_number(db, "db", "url"),
        tls=_SCHEMES[scheme], setting=f"{SECTION}.url",
    )  # fmt: skip


def _of_connection_string(text: str, kind: str) -> RedisSettings:
    """Feast's form: `host:port,host:port,db=0,ssl=true,password=…`."""
    hosts: list[str] = []
    values: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = part.partition("=")
        if equals:
            values[name.strip().lower()] = value.strip()
        else:
            hosts.append(part)
    known = ("db", "ssl", "password", "username", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
    for name in values:
        if name not in known:
            hint = nearest(name, known) or f"use one of {', '.join(known)}"
            raise _wrong("connection_string", f"the key {name!r}", hint)
    return RedisSettings(
        kind, _addresses(hosts, "connection_string"),
        username=values.get("username", ""), password=values.get("password", ""),
        db=_number(values.get("db", "0"), "db", "connection_string"),
        tls=_flag(values.get("ssl", "false"), "ssl"), tls_ca=values.get("ssl_ca_certs", ""),
        tls_cert=values.get("ssl_certfile", ""), tls_key=values.get("ssl_keyfile", ""),
        tls_verify=values.get("ssl_cert_reqs", "required").lower() != "none",
        setting=f"{SECTION}.connection_string",
    )  # fmt: skip


def _addresses(hosts: Sequence[str], option: str) -> tuple[Address, ...]:
    found: list[Address] = []
    for each in hosts:
        if "@" in each:
            raise _wrong(option, "an '@' in an address", "set username and password as separate options")
        try:
            parsed = urlsplit(f"//{each.strip()}")
            found.append((parsed.hostname or "", parsed.port or DEFAULT_PORT))
        except ValueError as error:
            raise _wrong(option, f"the address {each!r}", "write it as host:port") from error
    if not found or not all(host for host, _ in found):
        raise _wrong(option, "no host", "write it as redis://host:port, or host:port in connection_string")
    return tuple(found)


def _number(text: str, name: str, option: str) -> int:
    if not text.isdecimal():
        raise _wrong(option, f"{name} {text!r}", f"write {name} as an integer")
    return int(text)


def _flag(text: str, name: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise _wrong("connection_string", f"{name}={text}", f"write {name}=true or {name}=false")
    return text.lower() in _TRUE


def _wrong(option: str, found: str, hint: str) -> ConfigError:
    return ConfigError(f"{SECTION}.{option} of type redis: found {found}", hint=hint)
