"""`auth:` of `feature_store.yaml`: who may use the feature server, read and checked into plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from asof.config.documents import LocatedValue
from asof.config.paths import absolute
from asof.config.reading import read_section
from asof.config.sections import auth as sections
from asof.defaults import NAME_CLAIM, ROLES_CLAIM, TOKEN_ALGORITHMS, TOKEN_LEEWAY_S
from asof.errors import ConfigError, nearest, some
from asof.timing import Micros, micros
from asof.values.local_paths import NotLocal, scheme_of

S = TypeVar("S")

ACTIONS = ("read", "write", "admin")
"""The actions of roles; each includes those before it."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Accepted signature algorithms of tokens, all asymmetric: a shared secret does not prove who the issuer is."""


@dataclass(frozen=True)
class Role:
    """What holders of the role may do.

    Args:
        allow: one of `ACTIONS`.
        tags: limits access to views with all of these tags; empty allows every view.
        projects: limits access to these projects; empty allows every project.
    """

    name: str
    allow: str
    tags: Mapping[str, str] = field(default_factory=dict)
    projects: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApiKey:
    """A key that is accepted: its public id, and the hash of its secret half.

    Args:
        hash: `sha256:` and 64 hex digits.
        expires: time from which it is refused; None is never.
    """

    id: str
    hash: str
    name: str
    roles: tuple[Role, ...]
    expires: Micros | None = None
    where: str = ""


@dataclass(frozen=True)
class Issuer:
    """An issuer whose signed tokens are accepted.

    Args:
        jwks: URL or path of the public keys; if empty, the issuer's discovery document has their URL.
        leeway_s: tolerated clock difference.
        name_claim, roles_claim: the claims with the caller's name and roles; `a.b` is b inside a.
        roles: value of the roles claim → roles; None uses the values as names of roles.
        default_roles: roles of every caller with a valid token.
    """

    issuer: str
    audience: tuple[str, ...]
    jwks: str = ""
    algorithms: tuple[str, ...] = TOKEN_ALGORITHMS
    leeway_s: float = TOKEN_LEEWAY_S
    name_claim: str = NAME_CLAIM
    roles_claim: str = ROLES_CLAIM
    roles: Mapping[str, tuple[Role, ...]] | None = None
    default_roles: tuple[Role, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Certificate:
    """A client certificate that is accepted, by its subject: `CN=feeder,O=Shop`."""

    subject: str
    name: str
    roles: tuple[Role, ...]
    where: str = ""


@dataclass(frozen=True)
class Auth:
    """The contents of `auth:`.

    Args:
        roles: every role by name; `read`, `write` and `admin` always exist.
        public: paths that need no key, in addition to the health checks.
        origins: web pages that may call the server from a browser.
        audit: where writes and administration are logged: a path, `stderr`, or `off`; by default stderr if callers
            authenticate.
    """

    keys: tuple[ApiKey, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    roles: Mapping[str, Role] = field(default_factory=dict)
    public: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    audit: str = ""
    where: str = ""

    @property
    def is_on(self) -> bool:
        """Whether callers have to authenticate."""
        return bool(self.keys or self.issuers or self.certificates)

    @property
    def audit_target(self) -> str:
        """A path, `stderr` or `off`."""
        return self.audit or ("stderr" if self.is_on else "off")


def read_auth(written: LocatedValue | None, *, root: Path) -> Auth:
    """Read and check `auth:`.

    Raises:
        ConfigError: it is not well formed, or would admit callers by mistake.
    """
    if written is None:
        return Auth(roles=_built_in())
    kind = written.content.get("type") if written.tag == "map" else None
    if kind is not None:
        return _feast(written, kind)
    section = read_section(sections.AuthSection, written, path="auth", root=root)
    roles = _roles(section.roles or {}, written.at("roles"))
    auth = Auth(
        keys=tuple(_key(each, roles, at) for each, at in _with_locations(section.keys, written.at("keys"))),
        issuers=tuple(
            _issuer(each, roles, at, root=root) for each, at in _with_locations(section.issuers, written.at("issuers"))
        ),
        certificates=tuple(
            _certificate(each, roles, at)
            for each, at in _with_locations(section.certificates, written.at("certificates"))
        ),
        roles=roles,
        public=tuple(section.public or ()),
        origins=tuple(section.origins or ()),
        audit=section.audit or "",
        where=written.where,
    )
    _refuse_repeated("key id", auth.keys, lambda key: key.id)
    _refuse_repeated("certificate subject", auth.certificates, lambda each: each.subject)
    _refuse_repeated("issuer", auth.issuers, lambda each: each.issuer)
    return auth


def _with_locations(entries: Sequence[S] | None, written: LocatedValue) -> Iterator[tuple[S, LocatedValue]]:
    return ((each, written.at(number)) for number, each in enumerate(entries or ()))


def _built_in() -> dict[str, Role]:
    return {action: Role(action, action) for action in ACTIONS}


def _feast(written: LocatedValue, kind: LocatedValue) -> Auth:
    """Accept Feast's `no_auth`; refuse settings that protect a Feast server but would not protect this one."""
    if kind.content == "no_auth" and len(written.content) == 1:
        return Auth(roles=_built_in(), where=written.where)
    raise ConfigError(
        f"auth.type {kind.content!r} is a setting of Feast that does not protect an Asof server",
        hint="write auth.issuers with issuer, audience and roles (a cluster's tokens have an issuer too)",
        where=kind.where,
    )


def _roles(declared: Mapping[str, sections.RoleSection], at: LocatedValue) -> dict[str, Role]:
    roles = _built_in()
    for name, role in declared.items():
        if name in ACTIONS:
            raise ConfigError(f"role {name!r} exists already", hint="choose another name", where=at.at(name).where)
        roles[name] = Role(name, role.allow, role.tags or {}, tuple(role.projects or ()))
    return roles


def _key(key: sections.KeySection, roles: Mapping[str, Role], at: LocatedValue) -> ApiKey:
    return ApiKey(
        key.id,
        key.hash,
        key.name or f"key {key.id}",
        _roles_of("auth.keys.roles", key.roles, roles, at.at("roles")),
        micros(key.expires) if key.expires else None,
        at.where,
    )


def _certificate(certificate: sections.CertificateSection, roles: Mapping[str, Role], at: LocatedValue) -> Certificate:
    subject = ",".join(part.strip() for part in certificate.subject.split(","))
    named = _roles_of("auth.certificates.roles", certificate.roles, roles, at.at("roles"))
    return Certificate(subject, certificate.name or subject, named, at.where)


def _issuer(issuer: sections.IssuerSection, roles: Mapping[str, Role], at: LocatedValue, *, root: Path) -> Issuer:
    path = "auth.issuers"
    if not issuer.jwks:
        _refuse_plain_http(issuer.issuer, f"{path}.issuer", at.at("issuer"))
        if not issuer.issuer.startswith(("https://", "http://")):
            raise ConfigError(
                f"{path}.issuer {issuer.issuer!r} is not a URL, so its public keys cannot be found",
                hint="set jwks: to the URL or file of its public keys",
                where=at.at("issuer").where,
            )
    claims = None
    if issuer.roles is not None:
        claims = {
            claim: _roles_of(f"{path}.roles.{claim}", names, roles, at.at("roles", claim))
            for claim, names in issuer.roles.items()
        }
    return Issuer(
        issuer.issuer,
        tuple(issuer.audience),
        jwks=_jwks(issuer.jwks, at.at("jwks"), root) if issuer.jwks else "",
        algorithms=_algorithms(issuer.algorithms, at.at("algorithms")),
        leeway_s=issuer.leeway_s,
        name_claim=issuer.name_claim,
        roles_claim=issuer.roles_claim,
        roles=claims,
        default_roles=_roles_of(f"{path}.default_roles", issuer.default_roles or (), roles, at.at("default_roles")),
        where=at.where,
    )


def _jwks(text: str, at: LocatedValue, root: Path) -> str:
    if scheme_of(text) in ("http", "https"):
        _refuse_plain_http(text, "auth.issuers.jwks", at)
        return text
    try:
        return absolute(text, root)
    except NotLocal as error:
        raise ConfigError(
            f"auth.issuers.jwks: expected an https URL or a file, found: {error}",
            hint="write a path on this machine, or file:///…",
            where=at.where,
        ) from error


def _refuse_plain_http(address: str, path: str, at: LocatedValue) -> None:
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigError(
            f"{path}: keys fetched over plain http could be forged", hint="give an https URL", where=at.where
        )
    if "://" in address and parts.scheme not in ("http", "https"):
        raise ConfigError(f"{path}: expected an https URL or a file", hint="give one", where=at.where)


def _algorithms(names: Sequence[str], at: LocatedValue) -> tuple[str, ...]:
    for name in names:
        if name not in ALGORITHMS:
            why = ": a shared secret does not prove who signed" if name.startswith("HS") else ""
            raise ConfigError(
                f"auth.issuers.algorithms: {name!r} is not accepted{why}",
                hint=nearest(name, ALGORITHMS) or f"choose from {', '.join(ALGORITHMS)}",
                where=at.where,
            )
    return tuple(names)


def _roles_of(path: str, names: Sequence[str], roles: Mapping[str, Role], at: LocatedValue) -> tuple[Role, ...]:
    for name in names:
        if name not in roles:
            hint = nearest(name, roles) or f"the roles are {some(list(roles))}"
            raise ConfigError(f"{path}: there is no role {name!r}", hint=hint, where=at.where)
    return tuple(roles[name] for name in names)


def _refuse_repeated(what: str, entries: Sequence[Any], name_of: Callable[[Any], str]) -> None:
    seen: set[str] = set()
    for each in entries:
        if name_of(each) in seen:
            raise ConfigError(f"{what} {name_of(each)!r} is given twice", hint="keep one of them", where=each.where)
        seen.add(name_of(each))
