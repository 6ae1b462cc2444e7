"""The public keys of an issuer: fetched when needed, kept while it cannot be reached, never asked for too often."""

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
"""Keys older than this are asked for anew, beside the requests: a key that was withdrawn is refused after so long."""

KEEP_S = 24 * 3600.0
"""How long keys are used while their issuer cannot be asked."""

WAIT_S = 10.0
"""How long to wait before asking again, for a key that is unknown or an issuer that failed."""

TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20


class KeySet:
    """One issuer's keys by id. `refresh` waits for the issuer; everything else answers at once.

    Args:
        read: answers the key set's JSON, or raises OSError or ValueError.
        clock: seconds that only go forward.
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
        """Whether the keys are old enough to be asked for again, and the last try is long enough ago."""
        old = self._fetched_at is None or self._clock() - self._fetched_at > MAX_AGE_S
        return old and self.may_ask

    @property
    def may_ask(self) -> bool:
        return self._tried_at is None or self._clock() - self._tried_at >= WAIT_S

    @property
    def is_usable(self) -> bool:
        """Whether there are keys that are not too old."""
        return self._fetched_at is not None and self._clock() - self._fetched_at <= KEEP_S

    @property
    def ids(self) -> list[str]:
        """The ids of the keys that there are."""
        return list(self._raw)

    def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of this id, for this algorithm; without an id the only key there is. None: there is none."""
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
        """Ask the issuer, unless that was just done; the old keys stay where it fails."""
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
        """The error of a token that cannot be judged, as there are no keys."""
        return Overloaded(
            f"the keys of issuer {self.name} cannot be read ({self.problem or 'not asked yet'})",
            hint="check that the server reaches auth.issuers.jwks",
            retry_after_s=WAIT_S,
        )


def parse_keys(text: bytes) -> dict[str, Mapping[str, Any]]:
    """The public signing keys of a key set, by id; shared secrets and keys for other uses are left out.

    Raises:
        ValueError: it is no key set, or has no key that can be used.
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
        # Of another kind than the algorithm asks for.
        return None


def key_set_of(issuer: Issuer) -> KeySet:
    """The key set of an issuer, from where the configuration says."""
    place = issuer.jwks
    if place and "://" not in place:
        return KeySet(issuer.issuer, lambda: Path(place).read_bytes())
    return KeySet(issuer.issuer, lambda: fetch(place or discovered(issuer.issuer)))


def discovered(issuer: str) -> str:
    """The address of an issuer's keys, from its discovery document.

    Raises:
        ValueError: the document is another's, or names no address that can be trusted.
    """
    document = json.loads(fetch(issuer.rstrip("/") + "/.well-known/openid-configuration"))
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError(f"its discovery document is not of {issuer}")
    address = document.get("jwks_uri")
    if not isinstance(address, str):
        raise ValueError("its discovery document has no jwks_uri")
    if urlsplit(address).scheme != "https" and urlsplit(issuer).scheme == "https":
        raise ValueError("its discovery document leads away from https")
    return address


def fetch(address: str) -> bytes:
    """What is at an address, within a limited time and size.

    Raises:
        OSError: it cannot be had.
        ValueError: it is too large.
    """
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError(f"{address} is no http address")
    request = Request(address, headers={"Accept": "application/json", "User-Agent": "asof"})
    try:
        with build_opener(NoRedirects).open(request, timeout=TIMEOUT_S) as response:
            # The timeout is for each read; a body that drips must not hold the thread.
            ends, body = time.monotonic() + TIMEOUT_S, b""
            while chunk := response.read1(65536):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"{address} answers more than {MAX_BYTES} bytes")
                if time.monotonic() > ends:
                    raise TimeoutError(f"{address} takes longer than {TIMEOUT_S:g} s")
            return body
    except HTTPError as error:
        error.close()
        raise OSError(f"{address} answers {error.code}") from error
