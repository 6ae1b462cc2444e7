"""A schema registry with Confluent's REST API: schemas by ID, each fetched once.

Nothing that it responds is trusted: its size, time and shape are bounded. What is wrong with one schema is the reason
of its messages' dead letters; what is wrong with the registry is an error that lets a worker wait.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from threading import Lock
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from asof.connections.bounded_http import get
from asof.connections.expiring import ExpiringEntries
from asof.decoding import BrokenSchema, SchemaRegistryUnavailable, WriterSchema
from asof.defaults import SCHEMA_BYTES, SCHEMA_TIMEOUT_S
from asof.errors import ConfigError
from asof.forks import ForkListener, listen_to_forks
from asof.values.legible import cut
from asof.values.nesting import is_too_deep

UNKNOWN_FOR_S = 30.0
"""How long an unknown or unusable ID is cached: it may be registered or corrected after the message came."""

MOST_UNKNOWN = 10_000
"""How many such IDs are cached: a producer may make up any number of them."""

MOST_REASON = 1000
"""Characters that are kept of the reason why a schema cannot be used."""

MOST_KNOWN_CHARACTERS = 64 << 20
"""Characters of all cached schemas; beyond them the oldest are fetched again when they are needed."""

MOST_REFERENCES = 100
"""How many other schemas one may refer to."""

_REDIRECTS = range(300, 400)
_WAIT_S = 0.2
_LEAST_TIMEOUT_S = 0.1


class SchemaRegistry(ForkListener):
    """Returns schemas by ID. Safe to use from several threads.

    Args:
        url: as producers have it; it may contain `user:password@`.
        user, password: HTTP basic authentication.
        token: a bearer token instead.
        ca_file: the CA certificates to trust; the machine's if empty.
        timeout_s: how long to retry before the registry counts as unreachable.
        max_schema_bytes: of a schema with all that it refers to.
        label: the setting that names it, for messages.
    """

    def __init__(
        self,
        url: str = "",
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        ca_file: str = "",
        timeout_s: float = SCHEMA_TIMEOUT_S,
        max_schema_bytes: int = SCHEMA_BYTES,
        label: str = "schema registry",
        where: str = "",
    ) -> None:
        parts = _parsed(url)
        if parts is None:
            # An ambiguous URL may have the password in any of its fields.
            shown = re.sub(r"^([a-z]+://)?.*@", r"\1***@", url)
            raise ConfigError(
                f"{label}: {shown!r} is not the URL of a schema registry",
                hint="write https://host:port; special characters of a password as %40 and so on", where=where,
            )  # fmt: skip
        self.address = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        self.label, self.where, self.timeout_s = label, where, timeout_s
        self.max_schema_bytes = max_schema_bytes
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        user, password = user or unquote(parts.username or ""), password or unquote(parts.password or "")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif user:
            self._headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self._tls = self._context(ca_file)
        self._root = urlunsplit(self.address._replace(path=self.address.path.rstrip("/"), query="", fragment=""))
        self._known: dict[int, WriterSchema] = {}
        self._known_size = 0
        # ID → why it is unusable; empty text for an unknown one.
        self._unknown: ExpiringEntries[int, str] = ExpiringEntries(
            seconds=UNKNOWN_FOR_S, most=MOST_UNKNOWN, clock=time.monotonic
        )
        self._lock = Lock()
        listen_to_forks(self)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        self._lock = Lock()

    def _context(self, ca_file: str) -> ssl.SSLContext | None:
        if self.address.scheme == "http":
            return None
        try:
            return ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{self.label}: ca_file {ca_file!r} cannot be read: {error}", hint="name a PEM file", where=self.where
            ) from error

    def __call__(self, schema_id: int) -> WriterSchema | None:
        """The schema of this ID, else None.

        Raises:
            BrokenSchema: what the registry has of this ID is no schema that can be used.
            SchemaRegistryUnavailable: the registry is unreachable, refuses this user, or is not a schema registry.
        """
        known = self._known.get(schema_id)
        if known is not None:
            return known
        with self._lock:
            unusable = self._unknown.get(schema_id)
            if unusable is None:
                try:
                    found = self._fetched(f"schemas/ids/{schema_id}")
                except BrokenSchema as error:
                    found, unusable = None, cut(str(error), MOST_REASON)
                if found is not None:
                    self._keep(schema_id, found)
                    return found
                unusable = unusable or ""
                self._unknown.put(schema_id, unusable)
        if unusable:
            raise BrokenSchema(unusable)
        return None

    def _keep(self, schema_id: int, schema: WriterSchema) -> None:
        """Cache a schema; the ones that were fetched first go where there are too many."""
        self._known[schema_id] = schema
        self._known_size += _size_of(schema)
        while self._known_size > MOST_KNOWN_CHARACTERS and len(self._known) > 1:
            self._known_size -= _size_of(self._known.pop(next(iter(self._known))))

    def latest(self, subject: str) -> WriterSchema | None:
        """The newest schema of a subject, else None. It is not cached.

        Raises:
            BrokenSchema: what the registry has is no schema that can be used.
            SchemaRegistryUnavailable: the registry is unreachable, refuses this user, or is not a schema registry.
        """
        return self._fetched(f"subjects/{quote(subject, safe='')}/versions/latest")

    def _fetched(self, path: str) -> WriterSchema | None:
        until = time.monotonic() + self.timeout_s
        found = self._get(path, until)
        if found is None:
            return None
        kind = found.get("schemaType") or "AVRO"
        if not isinstance(kind, str):
            raise BrokenSchema(f"its schemaType is {type(kind).__name__}, not text")
        return WriterSchema(kind, found["schema"], self._references(found, until))

    def _references(self, schema: dict[str, Any], until: float) -> tuple[str, ...]:
        """The schemas that this one refers to, dependencies first."""
        complete: dict[tuple[str, int], str] = {}
        seen: set[tuple[str, int]] = set()
        size = len(schema["schema"])
        # What is still to be fetched, and what is complete once all above it is.
        todo: list[tuple[tuple[str, int], dict[str, Any] | None]] = [(each, None) for each in _named_by(schema)[::-1]]
        while todo:
            place, found = todo.pop()
            if found is not None:
                complete[place] = found["schema"]
                continue
            subject, version = place
            if place in complete:
                continue
            if place in seen:
                raise BrokenSchema(f"version {version} of subject {subject!r}, which it refers to, refers to itself")
            if len(seen) >= MOST_REFERENCES:
                raise BrokenSchema(f"it refers to more than {MOST_REFERENCES} others")
            found = self._get(f"subjects/{quote(subject, safe='')}/versions/{version}", until)
            if found is None:
                raise BrokenSchema(
                    f"it refers to version {version} of subject {subject!r}, which the schema registry does not have"
                )
            size += len(found["schema"])
            if size > self.max_schema_bytes:
                raise self._too_large()
            seen.add(place)
            todo.append((place, found))
            todo += [(each, None) for each in _named_by(found)[::-1]]
        return tuple(complete.values())

    def _too_large(self) -> BrokenSchema:
        return BrokenSchema(f"it has more than {self.max_schema_bytes} bytes")

    def _get(self, path: str, until: float) -> dict[str, Any] | None:
        """A response of the registry, with text as `schema`; None for what it does not have."""
        while True:
            left = max(until - time.monotonic(), _LEAST_TIMEOUT_S)
            try:
                status, location, body = get(
                    f"{self._root}/{path}", headers=self._headers, timeout_s=left, max_bytes=self.max_schema_bytes,
                    tls=self._tls,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                problem = self._unreached(error)
            else:
                if status == 200:
                    if len(body) > self.max_schema_bytes:
                        raise self._too_large()
                    return self._read(body)
                if status == 404 and _is_unknown(body):
                    return None
                problem = self._refused(status, location)
                if status < 500 and status != 429:
                    raise problem
            if time.monotonic() + _WAIT_S >= until:
                raise problem
            time.sleep(_WAIT_S)

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            found = None if is_too_deep(body) else json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
            raise self._error("does not respond like a schema registry", hint="check the URL and its path")
        return found

    def _refused(self, status: int, location: str | None) -> SchemaRegistryUnavailable:
        if status in _REDIRECTS:
            return self._error(
                f"responds {status} with a redirect to {_shown(location)}, which is not followed: the credentials are "
                "for this URL only", hint="give the final URL as its url",
            )  # fmt: skip
        if status in (401, 403):
            return self._error(f"responds {status}: it refuses this user", hint="check user and password (or token)")
        if status == 404:
            return self._error("does not respond like a schema registry (404)", hint="check the URL's path")
        return self._error(f"responds {status}", hint="see the registry's own log")

    def _unreached(self, error: Exception) -> SchemaRegistryUnavailable:
        if isinstance(error, ssl.SSLError):
            raise self._error(
                f"cannot be reached by TLS: {getattr(error, 'verify_message', '') or error.reason or error}",
                hint="give ca_file= for a private certificate authority, or check whether it is http or https",
            ) from error
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        made = self._error(
            f"cannot be reached within {self.timeout_s:g} s: {_printable(what)}", hint="check its url, and that it runs"
        )
        made.__cause__ = error
        return made

    def _error(self, problem: str, *, hint: str) -> SchemaRegistryUnavailable:
        address = f"{self.address.scheme}://{self.address.netloc}{self.address.path}"
        return SchemaRegistryUnavailable(
            f"schema registry {address} ({self.label}) {problem}", hint=hint, where=self.where
        )


def _named_by(schema: dict[str, Any]) -> list[tuple[str, int]]:
    """Subject and version of each schema that this one refers to."""
    references = schema.get("references") or []
    if not isinstance(references, list):
        raise BrokenSchema(f"its references are {type(references).__name__}, not a list")
    found: list[tuple[str, int]] = []
    for each in references:
        subject, version = (each.get("subject"), each.get("version")) if isinstance(each, dict) else (None, None)
        if not isinstance(subject, str) or not (subject and subject.isprintable()) or type(version) is not int:
            raise BrokenSchema("a reference of it has no subject and version")
        found.append((subject, version))
    return found


def _is_unknown(body: bytes) -> bool:
    """Whether a 404 is a registry's way to say that it does not have something."""
    try:
        return str(json.loads(body)["error_code"]).startswith("404")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _size_of(schema: WriterSchema) -> int:
    return len(schema.text) + sum(map(len, schema.references))


def _shown(location: str | None) -> str:
    """A redirect's target for messages: the server wrote it, and it may contain a password."""
    if not location:
        return "no address"
    return repr(re.sub(r"//[^/]*@", "//***@", _printable(location).partition("?")[0])[:200])


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:1000])


def _parsed(url: str) -> SplitResult | None:
    """Parse a URL; None if it is invalid, or ambiguous because of a `/`, `?`, `#` or `@` in a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    is_plain = "@" not in parts.path + parts.query + parts.fragment and parts.netloc.count("@") <= 1
    return parts if parts.scheme in ("http", "https") and host and is_plain else None


__all__ = ["SchemaRegistry"]
