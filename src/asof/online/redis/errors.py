"""Error messages and hints for errors of Redis servers."""

from __future__ import annotations

import ssl

from asof.errors import StorageError
from asof.online.redis.connection import ConnectionLost, ErrorReply
from asof.online.redis.settings import SECTION, RedisSettings, shown

_SETTINGS: dict[str, tuple[str, str]] = {
    "NOAUTH": (
        "requires a password, and none is set",
        f"set `{SECTION}.password: ${{REDIS_PASSWORD}}`, with `username` for an ACL user",
    ),
    "WRONGPASS": (
        "refused the password or the user",
        f"check `{SECTION}.password`, and `username` for an ACL user",
    ),
    "NOPERM": (
        "does not allow this for the user: {text}",
        "grant the ACL user the commands and keys in docs/how-to/redis.md",
    ),
    "OOM": (
        "has no memory left for a write (maxmemory is reached)",
        "raise the server's `maxmemory`, or set a ttl on views and drop unused ones",
    ),
    "MISCONF": (
        "refuses writes, because it cannot save its data to disk: {text}",
        "free disk space on the server, or see its log",
    ),
    "NOSPACE": ("has no space left: {text}", "free disk space on the server"),
    "READONLY": (
        "is a read-only replica",
        f"set `{SECTION}.url` to the master, or use `redis_type: redis_sentinel`; for stale reads use replica_reads",
    ),
    "CLUSTERMODE": (
        "is a node of a Redis Cluster",
        f"set `{SECTION}.redis_type: redis_cluster`",
    ),
    "NOCLUSTER": (
        "is not a node of a Redis Cluster",
        f"set `{SECTION}.redis_type: redis`, or use another address",
    ),
    "DENIED": (
        "refuses connections from this host (protected mode)",
        "set a password on the server, or change its `bind`",
    ),
    "LOADING": ("is still loading its data from disk", "wait until the server has loaded its data"),
    "MASTERDOWN": ("is a replica whose master is down", "check the master"),
    "CLUSTERDOWN": ("cannot serve all keys: {text}", "see `redis-cli cluster info`: a master or slots are missing"),
    "TRYAGAIN": ("is moving the slot of these keys", "retry after the move"),
    "BUSY": ("is busy with a script of another client", "end it with `redis-cli script kill`"),
    "MAXCLIENTS": ("has no connection left", "raise the server's `maxclients`, or lower `max_connections` here"),
}

_PASSING = {"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MAXCLIENTS", "READONLY"}
"""Error codes of a server that restarts, fails over or is busy."""


def failure(settings: RedisSettings, error: ConnectionLost | ErrorReply, *, waited_s: float = 0.0) -> StorageError:
    """The error for a failed call: server, reason, setting, and next step."""
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
        return f"has no database {settings.db}", f"set `{SECTION}.db` (or the number in the url) to an existing one"
    if "max number of clients" in text:
        return _SETTINGS["MAXCLIENTS"]
    if "cluster support disabled" in text:
        return _SETTINGS["NOCLUSTER"]
    if "called without any password configured" in text:
        return "has no password, but one is set", f"remove `{SECTION}.password`"
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
            f"the sentinels of the online store do not know the master {settings.sentinel_master!r}: {error.reason}"
            f"{_after(waited_s)} ({settings.setting})",
            hint=f"check the sentinels' addresses and `{SECTION}.sentinel_master`",
        )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StorageError(
            f"{where} has a certificate that cannot be trusted: {cause.verify_message or cause} ({SECTION}.tls_ca)",
            hint=f"set `{SECTION}.tls_ca` to the CA's certificate, and use the host name of the certificate in the url",
        )
    if isinstance(cause, ssl.SSLError) and ("ALERT" in str(cause).upper() or error.when == "answering"):
        return StorageError(
            f"{where} ended the connection after the TLS handshake: {error.reason} ({SECTION}.tls_cert)",
            hint=f"if the server requires client certificates, set `{SECTION}.tls_cert` and `tls_key`",
        )
    if error.when == "handshaking":
        said = f"no handshake within {settings.connect_timeout_s:g} s" if error.is_timeout else error.reason
        return StorageError(
            f"{where} does not speak TLS: {said} ({settings.setting})",
            hint="use redis:// in the url, or remove ssl=true; or use the server's TLS port",
        )
    if not settings.tls and not waited_s and error.when == "answering" and not error.is_timeout:
        return StorageError(
            f"{where} closed the connection ({settings.setting})",
            hint="if the server uses TLS, use rediss:// in the url, or ssl=true; else see the server's log",
        )
    if error.when == "connecting":
        waited = f"within {settings.connect_timeout_s:g} s" if error.is_timeout else error.reason
        return StorageError(
            f"{where} cannot be reached: {waited}{_after(waited_s)} ({settings.setting})",
            hint=f"check `{settings.setting}`, and that the server is running",
        )
    what = (
        f"did not respond within {settings.timeout_s:g} s ({SECTION}.timeout_s)" if error.is_timeout else error.reason
    )
    return StorageError(
        f"{where}: {what}{_after(waited_s)} ({settings.setting})",
        hint=f"check the server; `{SECTION}.timeout_s` and `{SECTION}.retry_s` set how long to wait",
    )


def _after(waited_s: float) -> str:
    return f", after retries for {waited_s:g} s ({SECTION}.retry_s)" if waited_s else ""


def too_old(settings: RedisSettings, version: str) -> StorageError:
    """The error for a server that lacks required commands."""
    return StorageError(
        f"the online store {settings.place} is Redis {version}, expected 7.0 or Valkey 7.2 ({settings.setting})",
        hint="upgrade the server",
    )


__all__ = ["failure", "too_old"]
