"""Public keys of an issuer: fetched when needed, cached while it is unreachable, with a limited rate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

import jwt

from asof.config.auth import ALGORITHMS, Issuer
from asof.connections.redirects import NoRedirects
from asof.errors import Overloaded

MAX_AGE_S = 300.0
"""Keys older than this are fetched again in the background; a revoked key is refused after this time."""

KEEP_S = 24 * 3600.0
"""How long cached keys are used while their issuer is unreachable."""

WAIT_S = 10.0
"""Pause before fetching again, for an unknown key or after a failure."""

TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20


class KeySet:
    """One issuer's keys by ID. Only `refresh` waits for the issuer.

    Args:
        read: returns the key set's JSON, or raises OSError or ValueError.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, name: str, read: Callable[[], bytes], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._read = read
        self._clock = clock
        self._lock = Lock()
        self._raw: dict[str, Mapping[str, Any]] = {}
        self._made: dict[tuple[str, str], jwt.PyJWK | None] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self.problem = ""
        self.is_asking = False

    @property
    def is_due(self) -> bool:
        """Whether the keys are old enough to be fetched again, and the last attempt is long enough ago."""
        old = self._fetched_at is None or self._clock() - self._fetched_at > MAX_AGE_S
        return old and self.may_ask

    @property
    def may_ask(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= WAIT_S

    @property
    def is_usable(self) -> bool:
        """Whether there are keys, and they are not too old."""
        return self._fetched_at is not None and self._clock() - self._fetched_at <= KEEP_S

    @property
    def ids(self) -> list[str]:
        """IDs of the cached keys."""
        return list(self._raw)

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key with this ID for this algorithm, or the only key if the ID is None. None if there is none."""
        if not self.is_usable:
            return None
        if kid is None:
            if len(self._raw) != 1:
                return None
            (kid,) = self._raw
        wanted = (kid, algorithm)
        if wanted not in self._made and kid in self._raw:
            self._made[wanted] = _made(self._raw[kid], algorithm)
        return self._made.get(wanted)

    def refresh(self) -> None:
        """Fetch the keys, unless that was just done; on a failure the old keys stay."""
        with self._lock:
            if not self.may_ask:
                return
            self.is_asking = True
            self._tried_at = self._clock()
            try:
                raw = parse_keys(self._read())
            except (OSError, ValueError, RecursionError) as error:
                self.problem = f"{type(error).__name__}: {error}"
                return
            finally:
                self.is_asking = False
            self._raw, self._made, self.problem = raw, {}, ""
            self._fetched_at = self._clock()

    def missing(self) -> Overloaded:
        """The error for a token that cannot be verified because there are no keys."""
        return Overloaded(
            f"the keys of issuer {self.name} cannot be read ({self.problem or 'not fetched yet'})",
            hint="check that the server reaches auth.issuers.jwks",
            retry_after_s=WAIT_S,
        )


def parse_keys(text: bytes) -> dict[str, Mapping[str, Any]]:
    """Public signing keys of a key set, by ID; shared secrets and keys for other uses are left out.

    Raises:
        ValueError: it is not a key set, or has no usable key.
    """
    document = json.loads(text)
    found = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ValueError("it has no list of keys")
    keys: dict[str, Mapping[str, Any]] = {}
    for key in found:
        if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP") or key.get("use", "sig") != "sig":
            continue
        keys[str(key.get("kid", ""))] = {name: value for name, value in key.items() if name != "d"}
    if not keys:
        raise ValueError("it has no public key for signatures")
    return keys


def _made(key: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    if algorithm not in ALGORITHMS or key.get("alg", algorithm) != algorithm:
        return None
    try:
        return jwt.PyJWK(dict(key), algorithm)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        # The key's type does not match the algorithm.
        return None


def key_set_of(issuer: Issuer) -> KeySet:
    """The key set of an issuer, as configured."""
    place = issuer.jwks
    if place and "://" not in place:
        return KeySet(issuer.issuer, lambda: Path(place).read_bytes())
    return KeySet(issuer.issuer, lambda: fetch(place or discovered(issuer.issuer)))


def discovered(issuer: str) -> str:
    """The URL of an issuer's keys, from its discovery document.

    Raises:
        ValueError: the document is of another issuer, or has no trustworthy URL.
    """
    document = json.loads(fetch(issuer.rstrip("/") + "/.well-known/openid-configuration"))
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError(f"its discovery document is not of {issuer}")
    address = document.get("jwks_uri")
    if not isinstance(address, str):
        raise ValueError("its discovery document has no jwks_uri")
    if urlsplit(address).scheme != "https" and urlsplit(issuer).scheme == "https":
        raise ValueError("its discovery document has a jwks_uri without https")
    return address


def fetch(address: str) -> bytes:
    """Fetch a URL, with a limit on time and size.

    Raises:
        OSError: it cannot be fetched.
        ValueError: it is too large.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError(f"{address} is not an http(s) URL")
    request = Request(address, headers={"Accept": "application/json", "User-Agent": "asof"})
    try:
        with build_opener(NoRedirects).open(request, timeout=TIMEOUT_S) as response:
            # The timeout holds for each read; a slow body must not block the thread.
            ends, body = time.monotonic() + TIMEOUT_S, b""
            while chunk := response.read1(65536):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"{address} returned more than {MAX_BYTES} bytes")
                if time.monotonic() > ends:
                    raise TimeoutError(f"{address} took longer than {TIMEOUT_S:g} s")
            return body
    except HTTPError as error:
        error.close()
        raise OSError(f"{address} returned status {error.code}") from error
