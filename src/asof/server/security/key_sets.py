"""Public keys of an issuer: fetched when needed, cached while it is unreachable, with a limited rate."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import jwt

from asof.config.auth import ALGORITHMS, Issuer
from asof.connections.bounded_http import get
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

    Attributes:
        problem: why the last attempt to fetch them failed, or why they are of no use; empty if neither.
        edition: another number after each change of the keys, so that what was verified with others is verified again.
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
        self.edition = 0

    @property
    def is_due(self) -> bool:
        """Whether the keys are old enough to be fetched again, and the last attempt is long enough ago."""
        old = self._fetched_at is None or self._clock() - self._fetched_at > MAX_AGE_S
        return old and self.may_ask

    @property
    def is_stale(self) -> bool:
        """Whether the keys are so old that a withdrawn one may be among them."""
        return self._fetched_at is not None and self._clock() - self._fetched_at > 2 * MAX_AGE_S

    @property
    def may_ask(self) -> bool:
        """Whether the last attempt to fetch them is long enough ago."""
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
            if raw != self._raw:
                self.edition += 1
            self._raw, self._made = raw, {}
            self.problem = "" if raw else "it publishes no public key for signatures"
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
        ValueError: it is not a key set. One without a usable key is: its issuer has withdrawn them all.
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
    return keys


def _made(key: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    if algorithm not in ALGORITHMS or key.get("alg", algorithm) != algorithm:
        return None
    try:
        return jwt.PyJWK(dict(key), algorithm)
    except Exception:
        # The key's type does not match the algorithm, or its fields are no numbers: the issuer may write anything.
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
    """Fetch a URL.

    Raises:
        OSError: it cannot be fetched.
        ValueError: it is too large, or the URL is not valid.
    """
    headers = {"Accept": "application/json", "User-Agent": "asof"}
    found = get(address, headers=headers, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES, through_proxy=True)
    if found.status != 200:
        raise OSError(f"{address} returned status {found.status}")
    if len(found.body) > MAX_BYTES:
        raise ValueError(f"{address} returned more than {MAX_BYTES} bytes")
    return found.body
