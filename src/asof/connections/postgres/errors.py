"""PostgreSQL's errors in our words: what went wrong with which object, and the setting to change; never a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from adbc_driver_manager import dbapi as adbc

from asof.errors import AsofError

DRIVER_ERRORS = (psycopg.Error, adbc.Error)
"""What the drivers raise; the pool's `PoolTimeout` is one of psycopg's."""

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
"""What an error says that breaks an Arrow stream, which carries no SQLSTATE → its SQLSTATE."""
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
    """Where a connection goes, as messages name it.

    Args:
        label: the setting that names the server, such as `offline_store`.
        address: host, port and database; no password.
        kind: the class of the errors.
        where: `file:line` of a definition, if the settings stand in one.
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
    """Turn the drivers' exceptions into ours.

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
    """Whether a driver raised it; what breaks an Arrow stream is an OSError with libpq's text."""
    return isinstance(error, DRIVER_ERRORS) or (isinstance(error, OSError) and "[libpq]" in str(error))


def own_words(error: BaseException) -> str:
    """What SQL of ours let the server say by a cast that fails (`asof: …`); empty where it was something else."""
    found = re.search(r'"asof: (.*?)"?\s*(?:\n|$)', str(error))
    return found.group(1) if found else ""


def sqlstate(error: BaseException) -> str:
    """The five letters that say what went wrong; empty where the server said nothing."""
    return str(getattr(error, "sqlstate", None) or "")


def translate(error: BaseException, what: str, place: ConnectionTarget) -> AsofError:
    """One of the drivers' exceptions as ours."""
    state = sqlstate(error)
    text = _text(error)
    problem, hint = _said(state, text, place) if state else _unsaid(text, place)
    made = place.error(what, problem, hint=hint, cause=error)
    made.may_pass = _may_pass(state, text)
    return made


def _may_pass(state: str, text: str) -> bool:
    """Whether the server is away, starts, hands over or is busy: so that the same call may succeed later."""
    if state:
        return state.startswith(("08", "57P", "40")) or state in ("53300", "25006", "55P03")
    return bool(_NO_ROUTE.search(text) or _CUT.search(text) or _BUSY.search(text))


def _text(error: BaseException) -> str:
    """What the server or the library said, in one line."""
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
                  f"give the primary's host in {label}; a replica's place is {label}.replicas"),
        "53100": (f"the disk of {at} is full: {text}", "free some space on the database server, then run it again"),
        "53200": (f"{at} ran out of memory: {text}", "lower work_mem on the database server, or read less at once"),
        "53300": (f"{at} has no connection left: {text}",
                  f"lower max_connections of {label}, raise the server's, or put PgBouncer between"),
        "55P03": (f"{at}: {text}", f"see who holds the lock (pg_locks), or raise lock_timeout_s of {label}"),
        "57P03": (f"{at} does not take connections now: {text}", "wait until the database server has started"),
        "40P01": (f"{at}: {text}", "run it again"),
        "40001": (f"{at}: {text}", "run it again"),
        "0A000": (f"{at} cannot do that: {text}", "see which version the database server is; Asof needs 14 or later"),
    }  # fmt: skip
    if state in exact:
        return exact[state]
    if state == "57014":
        if "statement timeout" in text:
            return f"{at} took too long: {text}", f"raise statement_timeout_s of {label}, or see why the server is slow"
        return f"{at}: {text}", "run it again"
    if state.startswith(("57P", "08")):
        return f"the connection to {at} was cut: {text}", "see why the database server ended it, then run it again"
    if state.startswith("28"):
        if _TLS.search(text):
            return f"{at} refuses the connection: {text}", f"check sslmode of {label}, and the server's pg_hba.conf"
        return (f"{at} refuses user {place.user!r}: {text}",
                f"check user and password of {label}, and the server's pg_hba.conf")  # fmt: skip
    if state.startswith("22"):
        return f"a value cannot be converted: {text}", "mend the value, or leave it out by query="
    if state.startswith("42"):
        return f"{at} refuses the SQL: {text}", "check the names and types in the query"
    return f"{at}: {text} (SQLSTATE {state})", f"see the log of the database server, and {label}"


def _unsaid(text: str, place: ConnectionTarget) -> tuple[str, str]:
    """Problem and next step of an error without an SQLSTATE: no session came about, or it was cut."""
    at, label = place.address, place.label
    for words, state in _STREAMED.items():
        if words in text:
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
    # A server that dies in the middle of a handshake says nothing of the settings of TLS.
    if _TLS.search(text) and not _CUT.search(text):
        return (f"no TLS session with {at} came about: {text}",
                f"check sslmode, sslrootcert, sslcert and sslkey of {label}")  # fmt: skip
    if text.startswith("no answer for"):
        hint = f"see whether the database server is stopped or overloaded, or raise statement_timeout_s of {label}"
        return f"{at} stands still: {text}", hint
    found = _NO_ROUTE.search(text)
    if found:
        return (f"{at} cannot be reached: {(found['reason'] or found['name'] or 'unknown host').strip()}",
                f"check host and port of {label}, and that the database server runs")  # fmt: skip
    if _CUT.search(text):
        return (f"the connection to {at} was cut: {text}",
                "see why the database server ended it, then run it again")  # fmt: skip
    return f"{at}: {text}", f"check {label}"


__all__ = ["ConnectionTarget", "is_driver_error", "own_words", "sqlstate", "translate", "translated"]
