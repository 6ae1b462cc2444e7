"""Addresses that a server may listen on: loopback always, others only with authentication."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from asof.config.auth import Auth
from asof.errors import ConfigError, NotAllowed


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        # A host name is not resolved: its address may change.
        return False


def refuse_open(host: str, auth: Auth, *, insecure: bool) -> None:
    """Refuse to serve on a public address without authentication, unless `insecure`.

    Raises:
        ConfigError: no authentication is configured.
    """
    if auth.is_on or insecure or is_loopback(host):
        return
    raise ConfigError(
        f"listening on {host} without authentication would let everyone who reaches it read and write features",
        hint="create a key with `asof keys new` and add it to auth.keys, listen on 127.0.0.1, or pass --insecure",
        where=auth.where,
    )


def cleartext_note(host: str, auth: Auth, *, is_tls: bool) -> str:
    """A warning if keys would be sent unencrypted, else an empty string."""
    if is_tls or not auth.is_on or is_loopback(host):
        return ""
    return (
        f"note: {host} is served without TLS: keys and tokens can be read on the network; "
        "set --tls-cert and --tls-key, or terminate TLS in a proxy"
    )


def is_foreign_page(origin: str, auth: Auth, *, host: str = "") -> bool:
    """Whether a browser sends this for a web page whose origin is not allowed.

    Also without authentication: such a server listens on the loopback address, which every page in this machine's
    browser could reach.

    Args:
        origin: the `Origin` header.
        host: the `Host` header. It is trusted only with authentication: by DNS rebinding a page's own host name can
            point to this server.
    """
    if "*" in auth.origins or origin in auth.origins:
        return False
    try:
        page = urlsplit(origin)
        name = page.hostname
    except ValueError:
        return True
    if name is None:
        return True
    return not is_loopback(name) and not (auth.is_on and page.netloc == host)


def refuse_foreign_host(headers: Iterable[tuple[bytes, bytes]], allowed: Iterable[str]) -> None:
    """Refuse a request for another host, on a server without authentication that listens on the loopback address.

    A page of any site can have its own host name point to this machine (DNS rebinding); its GET requests have no Origin
    header, so the Host header is all that tells them from the ones of this machine.

    Args:
        allowed: other names of this server, such as those of a port forward or a notebook's proxy.

    Raises:
        NotAllowed: the Host header names another host.
    """
    host = next((value for name, value in headers if name == b"host"), b"")
    if is_foreign_host(host, tuple(allowed)):
        raise NotAllowed(
            f"this server is for programs of its own machine, and was asked as {host.decode('latin-1')[:200]!r}",
            hint="ask it as localhost, or add the name to server.allowed_hosts",
        )


@lru_cache(256)
def is_foreign_host(host: bytes, allowed: tuple[str, ...]) -> bool:
    """Whether a Host header names neither this machine nor one of the allowed names, which may have a port.

    A request without the header is not foreign: browsers always send it.
    """
    text = host.decode("latin-1").lower()
    try:
        name = urlsplit(f"//{text}").hostname or ""
    except ValueError:
        name = text
    return bool(text) and not is_loopback(name) and not {name, text} & {each.lower() for each in allowed}
