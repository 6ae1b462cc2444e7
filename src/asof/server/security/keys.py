"""API keys: random, stored as hashes, looked up by their public half, compared in constant time."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest

from asof.config.auth import ApiKey
from asof.errors import NotAuthenticated
from asof.timing import Micros, iso

PREFIX = "asof_"
"""Prefix of keys, by which secret scanners recognize them."""

_SECRET_LENGTH = 43
"""32 random bytes in base64: so much entropy that a fast hash is safe."""


@dataclass(frozen=True)
class NewKey:
    """A newly generated key. Only `text` is secret, and it is not stored."""

    id: str
    text: str
    hash: str

    def __repr__(self) -> str:
        return f"NewKey({self.id})"


def new_key() -> NewKey:
    """A new key: `asof_<id>_<secret>`."""
    id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return NewKey(id, f"{PREFIX}{id}_{secret}", hash_of(secret))


def hash_of(secret: str) -> str:
    """Hash of a key's secret half, as the configuration stores it."""
    return "sha256:" + sha256(secret.encode()).hexdigest()


class KeyRing:
    """The configured keys.

    Args:
        keys: `auth.keys`.
    """

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys: Mapping[str, tuple[bytes, ApiKey]] = {
            each.id: (bytes.fromhex(each.hash.removeprefix("sha256:")), each) for each in keys
        }

    def check(self, text: str, now: Micros) -> ApiKey:
        """The key's entry.

        Raises:
            NotAuthenticated: the key is unknown or expired.
        """
        id, _, secret = text[len(PREFIX) :].partition("_")
        known = self._keys.get(id)
        if known is None or len(secret) != _SECRET_LENGTH:
            raise _unknown()
        digest, key = known
        if not compare_digest(sha256(secret.encode()).digest(), digest):
            raise _unknown()
        if key.expires is not None and now >= key.expires:
            raise NotAuthenticated(
                f"API key {key.id!r} expired at {iso(key.expires)}", hint="ask the server's admin for a new key"
            )
        return key


def _unknown() -> NotAuthenticated:
    # The same message whether the ID or the secret is wrong.
    return NotAuthenticated(
        "the API key is unknown", hint="check that all of it was copied, and that it is still in auth.keys"
    )
