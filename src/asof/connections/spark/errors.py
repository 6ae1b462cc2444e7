"""Errors of a Spark Connect client and its server as Asof's: what was done, what went wrong, and the next step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from pyspark.errors import PySparkException

from asof.errors import AsofError, EntityFrameError, Interrupted, SourceError, StorageError

DRIVER_ERRORS = (PySparkException, grpc.RpcError)
"""Exceptions of the client, and of the transport below it."""

_OWN = re.compile(r"asof: (.*?)\s*(?:SQLSTATE: \w+|\n|$)")
_CONDITION = re.compile(r"^\[([A-Z][A-Z_.0-9]+)\] *")
_DETAILS = re.compile(r'details = "(.*)"')
_STATUS = re.compile(r"StatusCode\.([A-Z_]+)")
_LOST_SESSION = re.compile(
    r"SESSION_NOT_FOUND|SESSION_CLOSED|SESSION_CHANGED|server side session identifier|session not found"
    r"|OPERATION_NOT_FOUND|OPERATION_ABANDONED|operation not found|incorrect session identifier",
    re.IGNORECASE,
)
_LOST_TASKS = re.compile(
    r"ExecutorLostFailure|Executor heartbeat timed out|FetchFailed|Job aborted due to stage failure: .*Lost task"
    r"|MetadataFetchFailed|worker .*(lost|heartbeat)|Lost executor",
    re.IGNORECASE | re.DOTALL,
)
_MEMORY = re.compile(
    r"OutOfMemory|Java heap space|GC overhead|Resources exhausted|Container killed by YARN|exceeds? .*maxResultSize"
    r"|UNABLE_TO_ACQUIRE_MEMORY|Cannot broadcast the table",
    re.IGNORECASE,
)
_NO_DRIVER = re.compile(
    r"ClassNotFoundException: (?P<name>[\w.$]+)|DATA_SOURCE_NOT_FOUND|Failed to find (?:the )?data source"
    r"|No FileSystem for scheme|UNSUPPORTED_FILE_SYSTEM|No suitable driver|NoClassDefFoundError: (?P<other>[\w./$]+)",
)
_NO_FILE = re.compile(
    r"PATH_NOT_FOUND|FileNotFoundException|FAILED_READ_FILE|Path does not exist|No such file or directory"
    r"|Object at location .* not found",
)
_PROTOCOL = re.compile(
    r"Protocol message (end-group|tag|contained)|unknown (method|service)|Method not found|UNIMPLEMENTED"
    r"|CONNECT_INVALID_PLAN|WRONG_VERSION_NUMBER|Failed parsing HTTP/2|Tls handshake failed",
    re.IGNORECASE,
)
_WRONG_SQL = re.compile(
    r"TABLE_OR_VIEW_NOT_FOUND|UNRESOLVED|PARSE_SYNTAX_ERROR|DATATYPE_MISMATCH|AMBIGUOUS|not found:|cannot resolve"
    r"|unknown function|expected something else|syntax|ambiguous|MISSING_AGGREGATION|MISSING_GROUP_BY|NOT_ALLOWED"
    r"|expected one statement|WRONG_NUM_ARGS|ParseException|error in SQL parser",
    re.IGNORECASE,
)
_BAD_VALUE = re.compile(
    r"CAST_INVALID_INPUT|CAST_OVERFLOW|ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT|Cannot cast|overflow", re.IGNORECASE
)


class SessionLost(StorageError):
    """The server no longer has the session of a read, which can be run again in another one."""

    may_pass = True


@dataclass(frozen=True)
class SparkAddress:
    """The server, as messages name it.

    Args:
        label: the setting that names it.
        address: host and port; no token.
        where: `file:line` of the setting.
    """

    address: str
    label: str = "offline_store"
    where: str = ""


@contextmanager
def translated(what: str, target: SparkAddress, *, user_sql: bool = False) -> Iterator[None]:
    """Convert the client's exceptions to Asof's errors.

    Args:
        what: what was being done, for the message.
        user_sql: whether the SQL is the user's, so that errors in it are reported as theirs.
    """
    try:
        yield
    except DRIVER_ERRORS as error:
        raise translate(error, what, target, user_sql=user_sql) from error


def translate(error: BaseException, what: str, target: SparkAddress, *, user_sql: bool = False) -> AsofError:
    """Convert a client's exception to Asof's error; `may_pass` says whether the same read may succeed later."""
    error = _reason(error)
    said = str(error)
    own = _OWN.search(said)
    if own:
        return SourceError(own[1].strip(), hint="declare the column's actual type, or fix the value")
    made = _server_error(error, said, what, target)
    if made is not None:
        made.where = target.where
        return made
    if user_sql and _WRONG_SQL.search(said):
        return EntityFrameError(
            f"{what}: {_line(said)}",
            hint="check the names of tables and columns; names that are keywords are written in backquotes",
        )
    if _BAD_VALUE.search(said):
        return SourceError(
            f"{what}: a value cannot be converted: {_line(said)}",
            hint="declare the column's actual type, or fix the value",
        )
    return StorageError(f"{what}: Spark at {target.address} reports: {_line(said)}", where=target.where)


def _server_error(error: BaseException, said: str, what: str, target: SparkAddress) -> AsofError | None:
    """The errors that are the server's, and not of what was asked; None for others."""
    status, place = status_of(error), f"Spark at {target.address}"
    if "OPERATION_CANCELED" in said or status == "CANCELLED":
        return Interrupted("the query was interrupted")
    if _LOST_SESSION.search(said):
        return SessionLost(
            f"{what}: {place} has closed the session: it was restarted, or the session was idle for too long",
            hint="run it again",
        )
    if status == "UNAVAILABLE" and _PROTOCOL.search(said):
        return StorageError(
            f"{what}: what listens at {target.address} does not speak Spark Connect: {_line(said)}",
            hint=f"check the port of {target.label}.remote (15002 is usual), and whether the server has TLS "
            "(/;use_ssl=true; a token is sent over TLS only)",
        )
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
        made = StorageError(
            f"{what}: {place} does not respond: {_line(said)}",
            hint=f"check {target.label}.remote, and that the Spark Connect server runs there",
        )
        made.may_pass = True
        return made
    if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return StorageError(f"{what}: {place} refuses the login: {_line(said)}", hint=f"check {target.label}.token")
    if _MEMORY.search(said):
        return StorageError(
            f"{what}: {place} is out of memory: {_line(said)}",
            hint="give its executors more memory (spark.executor.memory), or more partitions "
            "(spark.sql.shuffle.partitions)",
        )
    if _LOST_TASKS.search(said):
        made = StorageError(
            f"{what}: {place} lost executors, more often than it repeats a task: {_line(said)}",
            hint="run it again; if it recurs, look at the executors' logs",
        )
        made.may_pass = True
        return made
    missing = _NO_DRIVER.search(said)
    if missing:
        return StorageError(
            f"{what}: {place} lacks a library: {_line(said)}",
            hint="add its package to the server (spark.jars.packages), such as hadoop-aws for s3://",
        )
    if _NO_FILE.search(said):
        return unreachable_files(what, target, _line(said))
    if status == "RESOURCE_EXHAUSTED":
        return StorageError(
            f"{what}: a message is larger than the server or the client takes: {_line(said)}",
            hint="raise spark.connect.grpc.maxInboundMessageSize on the server",
        )
    if status == "UNIMPLEMENTED" or (status in ("INTERNAL", "UNKNOWN") and _PROTOCOL.search(said)):
        return StorageError(
            f"{what}: {place} does not speak this version of Spark Connect: {_line(said)}",
            hint="Asof needs a server of Spark 4.0 or later; check that the port is that of Spark Connect (15002)",
        )
    return None


def is_missing_file(error: BaseException) -> bool:
    """Whether the server does not find a file, or not a way to where it is."""
    return bool(_NO_FILE.search(str(error)) or _NO_DRIVER.search(str(error)))


def unreachable_files(what: str, target: SparkAddress, problem: str) -> StorageError:
    """The error of files that this process sees, and the server does not."""
    return StorageError(
        f"{what}: Spark at {target.address} cannot read a file: {problem}",
        hint="files must be in a folder that every executor sees under the same path, or in object storage; a file "
        "that was removed during the read is not read by the next one",
        where=target.where,
    )


def status_of(error: BaseException) -> str:
    """The name of the transport's status code; empty where there is none."""
    error = _reason(error)
    code = getattr(error, "code", None)
    if isinstance(error, grpc.RpcError) and callable(code):
        return str(code().name)
    status = getattr(error, "getGrpcStatusCode", None)
    found = status() if callable(status) else None
    if isinstance(found, grpc.StatusCode) and found is not grpc.StatusCode.UNKNOWN:
        return str(found.name)
    named = _STATUS.search(str(error))
    return named[1] if named else (str(found.name) if isinstance(found, grpc.StatusCode) else "")


def _reason(error: BaseException) -> BaseException:
    """The server's last error, around which the client of 4.0 has one of its own when its retries are at an end."""
    cause = error.__cause__
    return cause if "RETRIES_EXCEEDED" in str(error) and isinstance(cause, DRIVER_ERRORS) else error


def _line(said: str) -> str:
    """The first line of what the server says, without its codes and stack traces."""
    details = _DETAILS.search(said)
    text = _CONDITION.sub("", (details[1] if details else said).strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[0] if lines else "no reason given"
    line = re.split(r"\s*(?:SQLSTATE: \w+|; line \d+ pos)", line)[0]
    return line[:400].rstrip(" .;")


__all__ = [
    "DRIVER_ERRORS", "SessionLost", "SparkAddress", "is_missing_file", "status_of", "translate", "translated",
    "unreachable_files",
]  # fmt: skip
