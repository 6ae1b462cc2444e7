"""A schema registry with Confluent's REST API: schemas by ID, each fetched once."""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
from http.client import HTTPException
from threading import Lock
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from asof.connections.redirects import NoRedirects
from asof.decoding import WriterSchema
from asof.errors import ConfigError, SourceError
from asof.forks import ForkListener, listen_to_forks

UNKNOWN_FOR_S = 30.0
"""How long an unknown ID is cached: it may be registered after the message came."""

REDIRECTS = range(300, 400)

_WAIT_S = 0.2


class SchemaRegistry(ForkListener):
    """Returns schemas by ID. Safe to use from several threads.

    Args:
        url: as producers have it; it may contain `user:password@`.
        user, password: HTTP basic authentication.
        token: a bearer token instead.
        ca_file: the CA certificates to trust; the machine's if empty.
        timeout_s: how long to retry before the registry counts as unreachable.
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
        timeout_s: float = 10.0,
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
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        user, password = user or unquote(parts.username or ""), password or unquote(parts.password or "")
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif user:
            self._headers["Authorization"] = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self._opener = self._opened(ca_file)
        self._known: dict[int, WriterSchema] = {}
        self._unknown: dict[int, float] = {}
        self._lock = Lock()
        listen_to_forks(self)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        self._lock = Lock()

    def _opened(self, ca_file: str) -> OpenerDirector:
        try:
            context = ssl.create_default_context(cafile=ca_file or None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{self.label}: ca_file {ca_file!r} cannot be read: {error}", hint="name a PEM file", where=self.where
            ) from error
        return build_opener(HTTPSHandler(context=context), ProxyHandler({}), NoRedirects)

    def __call__(self, schema_id: int) -> WriterSchema | None:
        """The schema of this ID, else None.

        Raises:
            SourceError: the registry is unreachable, refuses this user, or the URL is not a schema registry.
        """
        known = self._known.get(schema_id)
        if known is not None:
            return known
        with self._lock:
            if time.monotonic() < self._unknown.get(schema_id, 0):
                return None
            found = self._get(f"schemas/ids/{schema_id}")
            if found is None:
                self._unknown[schema_id] = time.monotonic() + UNKNOWN_FOR_S
                return None
            references: dict[tuple[str, int], str] = {}
            self._gather(found, references)
            schema = WriterSchema(found.get("schemaType", "AVRO"), found["schema"], tuple(references.values()))
            self._known[schema_id] = schema
            return schema

    def _gather(self, schema: dict[str, Any], references: dict[tuple[str, int], str]) -> None:
        """The schemas that this one refers to, dependencies first."""
        for each in schema.get("references") or ():
            place = (each["subject"], each["version"])
            if place in references:
                continue
            found = self._get(f"subjects/{quote(place[0], safe='')}/versions/{place[1]}")
            if found is None:
                raise self._error(
                    f"has no version {place[1]} of subject {place[0]!r}, which a schema refers to", hint="register it"
                )
            self._gather(found, references)
            references[place] = found["schema"]

    def _get(self, path: str) -> dict[str, Any] | None:
        url = urlunsplit(self.address._replace(path=f"{self.address.path.rstrip('/')}/{path}"))
        until = time.monotonic() + self.timeout_s
        while True:
            left = until - time.monotonic()
            try:
                with self._opener.open(Request(url, headers=self._headers), timeout=max(left, 0.1)) as answer:
                    return self._read(answer.read())
            except HTTPError as error:
                problem = self._status(error)
                if problem is None:
                    return None
            except (URLError, HTTPException, OSError) as error:
                problem = self._unreached(error)
            if time.monotonic() + _WAIT_S >= until:
                raise problem
            time.sleep(_WAIT_S)

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
            assert isinstance(found["schema"], str)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise self._error("does not respond like a schema registry", hint="check the URL and its path") from error
        return found

    def _status(self, error: HTTPError) -> SourceError | None:
        """Interpret an HTTP error: None for an unknown ID, an error to retry after, or raise."""
        body = error.read()
        if error.code in REDIRECTS:
            there = _shown(error.headers.get("Location"))
            raise self._error(
                f"responds {error.code} with a redirect to {there}, which is not followed: the credentials are for "
                "this URL only", hint="give the final URL as its url",
            ) from error  # fmt: skip
        if error.code in (401, 403):
            raise self._error(
                f"responds {error.code}: it refuses this user", hint="check user and password (or token)"
            ) from error
        if error.code == 404:
            try:
                if str(json.loads(body)["error_code"]).startswith("404"):
                    return None
            except (ValueError, KeyError, TypeError):
                pass
            raise self._error("does not respond like a schema registry (404)", hint="check the URL's path") from error
        return self._error(f"responds {error.code}", hint="see the registry's own log")

    def _unreached(self, error: Exception) -> SourceError:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLError):
            raise self._error(
                f"cannot be reached by TLS: {getattr(cause, 'verify_message', '') or cause.reason or cause}",
                hint="give ca_file= for a private certificate authority, or check whether it is http or https",
            ) from error
        what = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
        made = self._error(
            f"cannot be reached within {self.timeout_s:g} s: {what}", hint="check its url, and that it runs"
        )
        made.__cause__ = error
        return made

    def _error(self, problem: str, *, hint: str) -> SourceError:
        address = f"{self.address.scheme}://{self.address.netloc}{self.address.path}"
        return SourceError(f"schema registry {address} ({self.label}) {problem}", hint=hint, where=self.where)


def _shown(location: str | None) -> str:
    """A redirect's target for messages: the server wrote it, and it may contain a password."""
    if not location:
        return "no address"
    printable = "".join(each if each.isprintable() else "?" for each in location)
    return repr(re.sub(r"//[^/]*@", "//***@", printable.partition("?")[0])[:200])


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
