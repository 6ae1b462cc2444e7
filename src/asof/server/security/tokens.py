"""Verifies signed tokens (JWT) of the configured issuers, and reads name and roles from their claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from asof.config.auth import Issuer, Role
from asof.errors import NotAuthenticated, some
from asof.server.security.callers import IdentityLookupNeeded
from asof.server.security.key_sets import KeySet, key_set_of

MAX_LENGTH = 16 * 1024

TIME_CLAIMS = ("exp", "nbf", "iat")
"""Claims with seconds since 1970."""

MAX_TIME_S = 1 << 40
"""The latest time that a claim may have, in seconds: more than 30,000 years from now."""


class KeysNeeded(IdentityLookupNeeded):
    """A token is signed with an unknown key: the issuer's key set must be fetched first."""

    def __init__(self, keys: KeySet) -> None:
        super().__init__(keys.name)
        self.keys = keys


@dataclass(frozen=True)
class VerifiedToken:
    """The name and roles of a verified token.

    Args:
        expires: expiry in epoch seconds, with the issuer's leeway.
        keys: the key set that it was verified with; `edition`: which of its editions.
    """

    name: str
    roles: tuple[Role, ...]
    expires: float
    keys: KeySet
    edition: int


class TokenVerifier:
    """Verifies tokens against the issuers' keys.

    Args:
        roles: every role by name, for issuers whose claims name roles.
        key_sets: issuer → its keys; by default from the configuration.
    """

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        roles: Mapping[str, Role],
        key_sets: Mapping[str, KeySet] | None = None,
    ) -> None:
        self._issuers = {each.issuer: each for each in issuers}
        self._roles = roles
        self.key_sets = key_sets or {each.issuer: key_set_of(each) for each in issuers}

    def check(self, token: str, *, fetched: bool = False) -> VerifiedToken:
        """Verify a token.

        Args:
            fetched: the key set was just fetched, so an unknown key is refused.

        Raises:
            NotAuthenticated: malformed, of an unknown issuer, expired or not valid yet, or for another audience.
            KeysNeeded: the key set must be fetched first.
            Overloaded: the key set cannot be fetched.
        """
        issuer, kid, algorithm = self._read_unverified(token)
        keys = self.key_sets[issuer.issuer]
        key = keys.find(kid, algorithm)
        if not fetched and keys.is_stale and (keys.may_ask or keys.is_asking):
            # It may be one that the issuer has withdrawn; while the issuer is unreachable it goes on.
            raise KeysNeeded(keys)
        if key is None:
            if not fetched and (keys.may_ask or keys.is_asking):
                raise KeysNeeded(keys)
            if not keys.is_usable:
                raise keys.missing()
            named = (kid or "without an ID")[:100]
            raise _refused(f"is signed with a key ({named}) that {issuer.issuer} does not have")
        claims = _verified(token, key, issuer)
        name = _claim(claims, issuer.name_claim)
        if not isinstance(name, str) or not name:
            raise _refused(f"has no claim {issuer.name_claim!r}")
        return VerifiedToken(name, self._roles_of(claims, issuer), claims["exp"] + issuer.leeway_s, keys, keys.edition)

    def _read_unverified(self, token: str) -> tuple[Issuer, str | None, str]:
        """Issuer, key ID and algorithm of a token, to find its key; unverified, so used for nothing else."""
        if len(token) > MAX_LENGTH:
            raise _refused(f"is longer than {MAX_LENGTH} characters")
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise NotAuthenticated(
                "the Authorization header has neither an API key nor a readable token",
                hint="send `Authorization: Bearer <key or token>`",
            ) from error
        name = claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise _refused(f"is of issuer {str(claims.get('iss'))[:100]!r}, which is not in auth.issuers")
        algorithm = header.get("alg")
        if algorithm not in issuer.algorithms:
            raise _refused(f"is signed with {str(algorithm)[:20]!r}; expected {some(issuer.algorithms)}")
        kid = header.get("kid")
        return issuer, kid if isinstance(kid, str) else None, str(algorithm)

    def _roles_of(self, claims: Mapping[str, Any], issuer: Issuer) -> tuple[Role, ...]:
        said = _claim(claims, issuer.roles_claim)
        names = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
        roles = list(issuer.default_roles)
        for name in names:
            if not isinstance(name, str):
                continue
            if issuer.roles is not None:
                roles += issuer.roles.get(name, ())
            elif name in self._roles:
                roles.append(self._roles[name])
        # Each once: a token may repeat one thousands of times, and each request looks through them.
        return tuple({role.name: role for role in roles}.values())


def _verified(token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, Any]:
    try:
        claims = jwt.decode(
            token, key, algorithms=list(issuer.algorithms), audience=list(issuer.audience), issuer=issuer.issuer,
            leeway=issuer.leeway_s,
            options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
        )  # fmt: skip
        for name in TIME_CLAIMS:
            if name in claims and not _is_time(claims[name]):
                raise _refused(f"has a claim {name!r} that is not a time in seconds")
        return claims
    except jwt.ExpiredSignatureError as error:
        raise _refused("has expired", "get a new one") from error
    except jwt.ImmatureSignatureError as error:
        raise _refused("is not valid yet", "check the clocks of both sides") from error
    except jwt.InvalidAudienceError as error:
        raise _refused(f"is for another audience; expected {some(issuer.audience)}") from error
    except jwt.InvalidSignatureError as error:
        raise _refused("has an invalid signature") from error
    except jwt.MissingRequiredClaimError as error:
        raise _refused(f"has no claim {error.claim!r}") from error
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise _refused(f"cannot be accepted ({type(error).__name__})") from error


def _is_time(value: object) -> bool:
    """Whether a claim is a number of seconds, which PyJWT would also read out of text."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_TIME_S <= value <= MAX_TIME_S


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name; if there is none, `a.b` is the field b of claim a."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _refused(why: str, hint: str = "ask the issuer for a token for this server") -> NotAuthenticated:
    return NotAuthenticated(f"the token {why}", hint=hint)
