"""Where a server may listen: on the loopback address freely, elsewhere only if it knows its callers."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from asof.config.auth import Auth
from asof.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        # Where a name leads is known only when it is asked for, and may change.
        return False


def refuse_open(host: str, auth: Auth, *, insecure: bool) -> None:
    """Refuse to serve everybody who reaches the host, unless that was said.

    Raises:
        ConfigError: nobody would have to say who they are.
    """
    if auth.is_on or insecure or is_loopback(host):
        return
    raise ConfigError(
        f"listening on {host} would let everybody who reaches it read and write features: no keys, tokens or "
        "certificates are set up",
        hint="make a key with `asof keys new` and put it under auth.keys, listen on 127.0.0.1, or say --insecure",
        where=auth.where,
    )


def cleartext_note(host: str, auth: Auth, *, is_tls: bool) -> str:
    """What to say at the start where keys would travel unencrypted; empty where they do not."""
    if is_tls or not auth.is_on or is_loopback(host):
        return ""
    return (
        f"note: {host} is served without TLS, so keys and tokens can be read on their way; "
        "give --tls-cert and --tls-key, or end TLS in front"
    )


def is_foreign_page(origin: str, auth: Auth, *, host: str = "") -> bool:
    """Whether a browser sends this for a page that was not let in.

    A server that asks nobody who they are listens on the loopback address, where every page that this machine's
    browser shows could reach it: pages are refused there, too.

    Args:
        origin: the page's, as the header of that name has it.
        host: the name by which the server was called. It is believed only where callers say who they are: a page can
            give its own name to our address.
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
