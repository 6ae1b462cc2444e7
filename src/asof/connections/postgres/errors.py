"""PostgreSQL's errors as Asof's: the object, what went wrong, and the setting to change; never a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from adbc_driver_manager import dbapi as adbc

from asof.errors import AsofError

DRIVER_ERRORS = (psycopg.Error, adbc.Error)
"""Exceptions of the drivers; the pool's `PoolTimeout` is one of psycopg's."""

_PREFIX = re.compile(r"^(?:[A-Z_]+: )?\[libpq\] ")
_SEVERITY = re.compile(r"^(?:.*?(?:FATAL|ERROR|PANIC): +)", re.DOTALL)
_PASSWORD = re.compile(r"password authentication failed|no password supplied|authentication failed")
_NO_ROUTE = re.compile(
    r"could not translate host name[^:]*: (?P<name>[^\n]*)|(?P<reason>Connection refused|No route to host|"
    r"Network is unreachable|Connection timed out|No such file or directory|timeout expired|connection timeout expired"
    r"|failed to resolve host[^\n]*)",
    re.IGNORECASE,
)
_STREAMED = {
    "statement timeout": "57014", "user request": "57014", "permission denied": "42501", "No space left": "53100",
    "out of memory": "53200", "conflict with recovery": "40001", "invalid input syntax": "22P02",
    "out of range": "22003",
    "division by zero": "22012", "could not resize shared memory": "53100", "malformed": "22P02",
}  # fmt: skip
"""Text of an error in an Arrow stream, which has no SQLSTATE → its SQLSTATE."""
_BUSY = re.compile(
    r"starting up|shutting down|recovery mode|not yet accepting|too many clients|remaining connection slots|"
    r"couldn't get a connection"
)
_CUT = re.compile(
    r"closed the connection|connection (is|was|has been)? ?(lost|closed|bad)|reset by peer|broken pipe|\beof\b"
    r"|terminating connection|postmaster exit|crash of another server process",
    re.IGNORECASE,
)
_TLS = re.compile(r"SSL|TLS|certificate|no encryption", re.IGNORECASE)


@dataclass(frozen=True)
class ConnectionTarget:
    """The server of a connection, as named in messages.

    Args:
        label: the setting that names the server, such as `offline_store`.
        address: host, port and database; no password.
        kind: the class of the errors to raise.
        where: `file:line` of the definition, if it has the settings.
    """

    label: str
    address: str
    user: str
    kind: type[AsofError]
    where: str = ""

    def error(self, what: str, problem: str, *, hint: str, cause: BaseException | None = None) -> AsofError:
        """An error about `what`."""
        made = self.kind(f"{what}: {problem}", hint=hint, where=self.where)
        made.__cause__ = cause
        return made


@contextmanager
def translated(what: str, place: ConnectionTarget) -> Iterator[None]:
    """Convert the drivers' exceptions to Asof's errors.

    Args:
        what: the object that is read or written, such as `source 'orders'`.
    """
    try:
        yield
    except (*DRIVER_ERRORS, OSError) as error:
        if not is_driver_error(error):
            raise
        raise translate(error, what, place) from error


def is_driver_error(error: BaseException) -> bool:
    """Whether a driver raised it; errors in an Arrow stream are OSErrors with libpq's text."""
    return isinstance(error, DRIVER_ERRORS) or (isinstance(error, OSError) and "[libpq]" in str(error))


def own_message(error: BaseException) -> str:
    """The text of an error that Asof's SQL raises by a failing cast (`asof: …`), else the empty string."""
    found = re.search(r'"asof: (.*?)"?\s*(?:\n|$)', str(error))
    return found.group(1) if found else ""


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of an error; empty if the server sent none."""
    return str(getattr(error, "sqlstate", None) or "")


def translate(error: BaseException, what: str, place: ConnectionTarget) -> AsofError:
    """Convert a driver's exception to Asof's error."""
    state = sqlstate(error)
    text = _text(error)
    problem, hint = _said(state, text, place) if state else _unsaid(text, place)
    made = place.error(what, problem, hint=hint, cause=error)
    made.may_pass = _may_pass(state, text)
    return made


def _may_pass(state: str, text: str) -> bool:
    """Whether the server is down, starting, failing over or busy, so that the same call may succeed later."""
    if state:
        return state.startswith(("08", "57P", "40")) or state in ("53300", "25006", "55P03")
    return bool(_NO_ROUTE.search(text) or _CUT.search(text) or _BUSY.search(text))


def _text(error: BaseException) -> str:
    """The message of the server or the library, on one line."""
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    if primary:
        return str(primary)
    text = _PREFIX.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "FATAL" not in text and "ERROR" not in text:
        return " ".join(lines)
    return _SEVERITY.sub("", next(line for line in lines if "FATAL" in line or "ERROR" in line))


def _said(state: str, text: str, place: ConnectionTarget) -> tuple[str, str]:
    """Problem and next step of an error that has an SQLSTATE."""
    at, label = place.address, place.label
    exact: dict[str, tuple[str, str]] = {
        "3D000": (f"there is no such database at {at}: {text}", f"check database of {label}"),
        "3F000": (f"there is no such schema at {at}: {text}", f"check schema of {label}"),
        "28P01": (f"{at} refuses user {place.user!r}: {text}", f"check user and password of {label}"),
        "42P01": (f"{text}, in {at}", f"check its name, schema= and database of {label}"),
        "42703": (f"{text}, in {at}", "check the name of the column"),
        "42501": (f"user {place.user!r} of {at} may not do that: {text}",
                  f"grant it to {place.user!r} in the database, or give another user in {label}"),
        "25006": (f"{at} is read-only, such as a replica: {text}",
                  f"give the primary's host in {label}; put replicas into {label}.replicas"),
        "53100": (f"the disk of {at} is full: {text}", "free some space on the database server, then run it again"),
        "53200": (f"{at} ran out of memory: {text}", "lower work_mem on the database server, or read less at once"),
        "53300": (f"{at} has no connection left: {text}",
                  f"lower max_connections of {label}, raise the server's, or put PgBouncer between"),
        "55P03": (f"{at}: {text}", f"check who holds the lock (pg_locks), or raise lock_timeout_s of {label}"),
        "57P03": (f"{at} does not take connections now: {text}", "wait until the database server has started"),
        "40P01": (f"{at}: {text}", "run it again"),
        "40001": (f"{at}: {text}", "run it again"),
        "0A000": (f"{at} cannot do that: {text}", "check the version of the database server; Asof needs 14 or later"),
    }  # fmt: skip
    if state == "42501" and text.startswith("must be owner of"):
        # Ownership is no right that can be granted alone.
        return exact[state][0], f"run it as the owner, or grant the owner's role to {place.user!r} in the database"
    if state in exact:
        return exact[state]
    if state == "57014":
        if "statement timeout" in text:
            return (
                f"{at} took too long: {text}",
                f"raise statement_timeout_s of {label}, or see why it is slow",
            )
        return f"{at}: {text}", "run it again"
    if state.startswith(("57P", "08")):
        return f"the connection to {at} was cut: {text}", "check why the database server ended it, then run it again"
    if state.startswith("28"):
        if _TLS.search(text):
            return f"{at} refuses the connection: {text}", f"check sslmode of {label}, and the server's pg_hba.conf"
        return (f"{at} refuses user {place.user!r}: {text}",
                f"check user and password of {label}, and the server's pg_hba.conf")  # fmt: skip
    if state.startswith("22"):
        return f"a value cannot be converted: {text}", "fix the value, or exclude it with query="
    if state.startswith("42"):
        return f"{at} refuses the SQL: {text}", "check the names and types in the query"
    return f"{at}: {text} (SQLSTATE {state})", f"see the log of the database server, and {label}"


def _unsaid(text: str, place: ConnectionTarget) -> tuple[str, str]:
    """Problem and next step of an error without an SQLSTATE: no session was made, or it was cut."""
    at, label = place.address, place.label
    for phrase, state in _STREAMED.items():
        if phrase in text:
            return _said(state, text, place)
    if _PASSWORD.search(text):
        return f"{at} refuses user {place.user!r}: {text}", f"check user and password of {label}"
    if re.search(r'database ".*" does not exist', text):
        return f"there is no such database: {text}", f"check database of {label}"
    if re.search(r"too many (clients|connections)|remaining connection slots", text):
        return _said("53300", text, place)
    if re.search(r"starting up|shutting down|recovery mode|not yet accepting", text):
        return _said("57P03", text, place)
    if re.search(r"role .* does not exist|not permitted to log in", text):
        return f"{at} refuses user {place.user!r}: {text}", f"check user of {label}"
    if "unsupported startup parameter" in text:
        return f"{at} refuses the session's settings: {text}", f"set pgbouncer: true in {label}"
    # A server that dies during a handshake does not mean that the TLS settings are wrong.
    if _TLS.search(text) and not _CUT.search(text):
        return (f"no TLS session with {at} was made: {text}",
                f"check sslmode, sslrootcert, sslcert and sslkey of {label}")  # fmt: skip
    if text.startswith("no response for"):
        hint = f"check whether the database server is stopped or overloaded, or raise statement_timeout_s of {label}"
        return f"{at} does not respond: {text}", hint
    found = _NO_ROUTE.search(text)
    if found:
        return (f"{at} cannot be reached: {(found['reason'] or found['name'] or 'unknown host').strip()}",
                f"check host and port of {label}, and that the database server runs")  # fmt: skip
    if _CUT.search(text):
        return (f"the connection to {at} was cut: {text}",
                "check why the database server ended it, then run it again")  # fmt: skip
    return f"{at}: {text}", f"check {label}"


__all__ = ["ConnectionTarget", "is_driver_error", "own_message", "sqlstate", "translate", "translated"]
