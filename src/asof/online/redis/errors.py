"""The user's words for what a Redis server reports, and the next step."""

from __future__ import annotations

import ssl

from asof.errors import StorageError
from asof.online.redis.connection import ConnectionLost, ErrorReply
from asof.online.redis.settings import SECTION, RedisSettings, shown

_SETTINGS: dict[str, tuple[str, str]] = {
    "NOAUTH": (
        "asks for a password, and none is set",
        f"give `{SECTION}.password: ${{REDIS_PASSWORD}}`, with `username` for an ACL user",
    ),
    "WRONGPASS": (
        "refused the password or the user",
        f"check `{SECTION}.password`, and `username` where there is an ACL user",
    ),
    "NOPERM": (
        "does not let this user do it: {text}",
        "give the ACL user the commands and keys of docs/how-to/redis.md",
    ),
    "OOM": (
        "has no memory left for a write (maxmemory is reached)",
        "raise the server's `maxmemory`, or give views a ttl and drop what is not needed",
    ),
    "MISCONF": (
        "refuses writes, since it cannot save its data to disk: {text}",
        "free some disk for the server, or see its log",
    ),
    "NOSPACE": ("has no space left: {text}", "free some disk for the server"),
    "READONLY": (
        "is a read-only replica",
        f"set `{SECTION}.url` to the master, or use `redis_type: redis_sentinel`; stale reads alone: replica_reads",
    ),
    "CLUSTERMODE": (
        "is a node of a Redis Cluster",
        f"set `{SECTION}.redis_type: redis_cluster`",
    ),
    "NOCLUSTER": (
        "is not a node of a Redis Cluster",
        f"set `{SECTION}.redis_type: redis`, or another address",
    ),
    "DENIED": ("refuses connections from here (protected mode)", "give the server a password, or bind it otherwise"),
    "LOADING": ("still reads its data from disk", "wait until the server has loaded its data"),
    "MASTERDOWN": ("is a replica whose master is down", "see the state of the master"),
    "CLUSTERDOWN": ("cannot serve all keys: {text}", "see `redis-cli cluster info`: a master is missing, or slots are"),
    "TRYAGAIN": ("moves the slot of these keys", "try again when the move has ended"),
    "BUSY": ("is busy with somebody's script", "end it with `redis-cli script kill`"),
    "MAXCLIENTS": ("has no connection left", "raise the server's `maxclients`, or lower `max_connections` here"),
}

_PASSING = {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MAXCLIENTS", "READONLY"}
"""What a server says that restarts, hands over to another or is busy."""


def failure(settings: RedisSettings, error: ConnectionLost | ErrorReply, *, waited_s: float = 0.0) -> StorageError:
    """What happened at which server, the setting, and what to do."""
    if isinstance(error, ConnectionLost):
        made = _lost(settings, error, waited_s=waited_s)
        made.may_pass = not isinstance(error.__cause__, ssl.SSLError)
        return made
    where = f"the online store at {shown(error.address)}"
    after = f" for more than {waited_s:g} s ({SECTION}.retry_s)" if waited_s else ""
    text = error.text.partition(" ")[2]
    what, hint = _refusal(settings, error)
    made = StorageError(f"{where} {what.format(text=text)}{after} ({settings.setting})", hint=hint)
    made.may_pass = error.code in _PASSING or "max number of clients" in error.text
    return made


def _refusal(settings: RedisSettings, error: ErrorReply) -> tuple[str, str]:
    text = error.text
    if "DB index is out of range" in text:
        return f"has no database {settings.db}", f"set `{SECTION}.db` (or the number in the url) to one that it has"
    if "max number of clients" in text:
        return _SETTINGS["MAXCLIENTS"]
    if "cluster support disabled" in text:
        return _SETTINGS["NOCLUSTER"]
    if "called without any password configured" in text:
        return "has no password, but one is given", f"leave `{SECTION}.password` out"
    if "called with" in text and "AUTH" in text:
        return _SETTINGS["WRONGPASS"]
    if error.code in _SETTINGS:
        return _SETTINGS[error.code]
    return f"refused: {text.replace('{', '{{').replace('}', '}}')}", "see the server's log"


def _lost(settings: RedisSettings, error: ConnectionLost, *, waited_s: float) -> StorageError:
    cause = error.__cause__
    where = f"the online store at {shown(error.address)}"
    if error.when == "sentinels":
        return StorageError(
            f"the sentinels of the online store know no master {settings.sentinel_master!r}: {error.reason}"
            f"{_after(waited_s)} ({settings.setting})",
            hint=f"check the sentinels' addresses and `{SECTION}.sentinel_master`",
        )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StorageError(
            f"{where} has a certificate that cannot be trusted: {cause.verify_message or cause} ({SECTION}.tls_ca)",
            hint=f"set `{SECTION}.tls_ca` to the authority's certificate, and the url to the name in the certificate",
        )
    if isinstance(cause, ssl.SSLError) and ("ALERT" in str(cause).upper() or error.when == "answering"):
        return StorageError(
            f"{where} ended the connection after the TLS handshake: {error.reason} ({SECTION}.tls_cert)",
            hint=f"if the server wants certificates of its clients, set `{SECTION}.tls_cert` and `tls_key`",
        )
    if error.when == "handshaking":
        said = f"no handshake within {settings.connect_timeout_s:g} s" if error.is_timeout else error.reason
        return StorageError(
            f"{where} does not speak TLS: {said} ({settings.setting})",
            hint="begin the url with redis://, or leave ssl=true out; or set the port of the server's TLS",
        )
    if not settings.tls and not waited_s and error.when == "answering" and not error.is_timeout:
        return StorageError(
            f"{where} closed the connection ({settings.setting})",
            hint="if the server speaks TLS, begin the url with rediss:// or say ssl=true; else see the server's log",
        )
    if error.when == "connecting":
        waited = f"within {settings.connect_timeout_s:g} s" if error.is_timeout else error.reason
        return StorageError(
            f"{where} cannot be reached: {waited}{_after(waited_s)} ({settings.setting})",
            hint=f"check that the server runs there, and `{settings.setting}`",
        )
    what = f"did not answer within {settings.timeout_s:g} s ({SECTION}.timeout_s)" if error.is_timeout else error.reason
    return StorageError(
        f"{where}: {what}{_after(waited_s)} ({settings.setting})",
        hint=f"see how the server is; `{SECTION}.timeout_s` and `{SECTION}.retry_s` say how long to wait",
    )


def _after(waited_s: float) -> str:
    return f", tried again for {waited_s:g} s ({SECTION}.retry_s)" if waited_s else ""


def too_old(settings: RedisSettings, version: str) -> StorageError:
    """The server lacks commands that are needed."""
    return StorageError(
        f"the online store {settings.place} is Redis {version}, expected 7.0 or Valkey 7.2 ({settings.setting})",
        hint="upgrade the server",
    )


__all__ = ["failure", "too_old"]
