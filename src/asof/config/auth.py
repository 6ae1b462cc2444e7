"""`auth:` of `feature_store.yaml`: who may use the feature server, read and checked into plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asof.config.documents import Value
from asof.errors import ConfigError, nearest, some
from asof.timing import Micros, micros
from asof.values.local_paths import NotLocal, local_path, scheme_of

ACTIONS = ("read", "write", "admin")
"""What a role allows; each includes those before it."""

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that a token may have: those with a private and a public key. A shared secret is no proof of an issuer."""

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-z]{4,32}")
_KEYS = {
    "": ("keys", "issuers", "certificates", "roles", "public", "origins", "audit"),
    "keys": ("id", "hash", "name", "roles", "expires"),
    "issuers": (
        "issuer", "audience", "jwks", "algorithms", "leeway_s", "name_claim", "roles_claim", "roles", "default_roles",
    ),
    "certificates": ("subject", "name", "roles"),
    "roles": ("allow", "tags", "projects"),
}  # fmt: skip


@dataclass(frozen=True)
class Role:
    """What its holders may do.

    Args:
        allow: one of `ACTIONS`.
        tags: only with views that have all of these; empty: with every view.
        projects: only in these; empty: in every one.
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
        expires: from then on it is refused; None is never.
    """

    id: str
    hash: str
    name: str
    roles: tuple[Role, ...]
    expires: Micros | None = None
    where: str = ""


@dataclass(frozen=True)
class Issuer:
    """One whose signed tokens are accepted.

    Args:
        jwks: an address or a path of the public keys; empty asks the issuer's discovery document.
        leeway_s: how far its clock may be off.
        name_claim, roles_claim: the claims that say who it is and which roles they have; `a.b` is b inside of a.
        roles: value of the roles claim → roles; None takes the values for names of roles.
        default_roles: of everybody whose token is good.
    """

    issuer: str
    audience: tuple[str, ...]
    jwks: str = ""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    leeway_s: float = 30
    name_claim: str = "sub"
    roles_claim: str = "roles"
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
    """All that `auth:` says.

    Args:
        roles: every role by name; `read`, `write` and `admin` are always there.
        public: paths that need no key, beside those that say whether the server is well.
        origins: web pages that may call the server from a browser.
        audit: where writes and administration are written down: a path, `stderr`, or `off`; by default stderr where
            callers say who they are.
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
        """Whether anybody has to say who they are."""
        return bool(self.keys or self.issuers or self.certificates)

    @property
    def audit_target(self) -> str:
        """A path, `stderr` or `off`."""
        return self.audit or ("stderr" if self.is_on else "off")


def read_auth(written: Value | None, *, root: Path) -> Auth:
    """What `auth:` says.

    Raises:
        ConfigError: it is not well formed, or would let in whom nobody meant.
    """
    if written is None:
        return Auth(roles=_built_in())
    content = _group("auth", written)
    kind = content.get("type")
    if kind is not None:
        return _feast(content, kind, written)
    _refuse_unknown("auth", content, "")
    roles = _roles(content.get("roles"))
    keys = tuple(_key(each, roles) for each in _list("auth.keys", content.get("keys")))
    _refuse_repeated("key id", keys, lambda key: key.id)
    certificates = tuple(_certificate(each, roles) for each in _list("auth.certificates", content.get("certificates")))
    _refuse_repeated("certificate subject", certificates, lambda each: each.subject)
    issuers = tuple(_issuer(each, roles, root) for each in _list("auth.issuers", content.get("issuers")))
    _refuse_repeated("issuer", issuers, lambda each: each.issuer)
    audit = _text("auth.audit", content["audit"]) if "audit" in content else ""
    if audit not in ("", "stderr", "off"):
        audit = _file("auth.audit", audit, content["audit"], root)
    return Auth(
        keys=keys, issuers=issuers, certificates=certificates, roles=roles, audit=audit, where=written.where,
        public=tuple(_path(each) for each in _list("auth.public", content.get("public"))),
        origins=tuple(_origin(each) for each in _list("auth.origins", content.get("origins"))),
    )  # fmt: skip


def _built_in() -> dict[str, Role]:
    return {action: Role(action, action) for action in ACTIONS}


def _feast(content: Mapping[str, Value], kind: Value, written: Value) -> Auth:
    """Feast's spelling: `no_auth` is taken, and what would protect there and not here is refused."""
    if kind.content == "no_auth" and len(content) == 1:
        return Auth(roles=_built_in(), where=written.where)
    raise ConfigError(
        f"auth.type {kind.content!r} is Feast's, and is set otherwise here: leaving it out would leave the server open",
        hint="write auth.issuers with issuer, audience and roles (a cluster's tokens have an issuer too)",
        where=kind.where,
    )


def _roles(written: Value | None) -> dict[str, Role]:
    roles = _built_in()
    for name, value in _group("auth.roles", written).items():
        if name in ACTIONS:
            raise ConfigError(f"role {name!r} is there already", hint="choose another name", where=value.where)
        path = f"auth.roles.{name}"
        content = _group(path, value)
        _refuse_unknown(path, content, "roles")
        allow = _text(f"{path}.allow", _needed(path, content, "allow", value))
        if allow not in ACTIONS:
            hint = nearest(allow, ACTIONS) or f"choose one of {', '.join(ACTIONS)}"
            raise ConfigError(f"{path}.allow: there is no {allow!r}", hint=hint, where=content["allow"].where)
        tags = {
            tag: _text(f"{path}.tags.{tag}", each) for tag, each in _group(f"{path}.tags", content.get("tags")).items()
        }
        projects = _texts(f"{path}.projects", content.get("projects"))
        for key in ("tags", "projects"):
            if key in content and not content[key].content:
                # An empty list reads like "none", and would mean "all".
                raise ConfigError(f"{path}.{key} is empty", hint="leave it out to mean all", where=content[key].where)
        roles[name] = Role(name, allow, tags, projects)
    return roles


def _key(value: Value, roles: Mapping[str, Role]) -> ApiKey:
    content = _group("auth.keys", value)
    _refuse_unknown("auth.keys", content, "keys")
    id = _text("auth.keys.id", _needed("auth.keys", content, "id", value))
    hash = _text("auth.keys.hash", _needed("auth.keys", content, "hash", value))
    if not _KEY_ID.fullmatch(id):
        raise ConfigError(
            "auth.keys.id: expected 4 to 32 small letters and digits",
            hint="let `asof keys new` make it",
            where=content["id"].where,
        )
    if not _HASH.fullmatch(hash):
        # What is there may be the key itself, so it is not shown.
        raise ConfigError(
            f"auth.keys.hash of key {id!r} is not the hash of a key",
            hint="write what `asof keys new` prints, never the key itself",
            where=content["hash"].where,
        )
    expires = None
    if "expires" in content:
        try:
            expires = micros(_text("auth.keys.expires", content["expires"]))
        except ValueError as error:
            raise ConfigError(
                f"auth.keys.expires: expected a moment, found {content['expires'].content!r}",
                hint="write for example 2027-01-01T00:00:00Z",
                where=content["expires"].where,
            ) from error
    name = _text("auth.keys.name", content["name"]) if "name" in content else f"key {id}"
    return ApiKey(id, hash, name, _named_roles("auth.keys.roles", value, content, roles), expires, value.where)


def _certificate(value: Value, roles: Mapping[str, Role]) -> Certificate:
    content = _group("auth.certificates", value)
    _refuse_unknown("auth.certificates", content, "certificates")
    subject = _text("auth.certificates.subject", _needed("auth.certificates", content, "subject", value))
    if not re.fullmatch(r"[A-Za-z]+=[^,]+(,\s*[A-Za-z]+=[^,]+)*", subject):
        raise ConfigError(
            f"auth.certificates.subject {subject!r} is no subject",
            hint="write it as CN=feeder,O=Shop",
            where=content["subject"].where,
        )
    subject = ",".join(part.strip() for part in subject.split(","))
    name = _text("auth.certificates.name", content["name"]) if "name" in content else subject
    return Certificate(
        subject, name, _named_roles("auth.certificates.roles", value, content, roles), value.where
    )  # fmt: skip


def _issuer(value: Value, roles: Mapping[str, Role], root: Path) -> Issuer:
    path = "auth.issuers"
    content = _group(path, value)
    _refuse_unknown(path, content, "issuers")
    issuer = _text(f"{path}.issuer", _needed(path, content, "issuer", value))
    # A token for another service of the same issuer must not open this one.
    audience = _texts(f"{path}.audience", _needed(path, content, "audience", value))
    options: dict[str, Any] = {}
    if "jwks" in content:
        options["jwks"] = _jwks(content["jwks"], root)
    else:
        _refuse_plain_http(issuer, f"{path}.issuer", content["issuer"])
        if not issuer.startswith(("https://", "http://")):
            raise ConfigError(
                f"{path}.issuer {issuer!r} is no address, so its keys cannot be found",
                hint="give jwks: the address or file of its public keys",
                where=content["issuer"].where,
            )
    if "algorithms" in content:
        options["algorithms"] = _algorithms(content["algorithms"])
    if "leeway_s" in content:
        options["leeway_s"] = _leeway(content["leeway_s"])
    for name in ("name_claim", "roles_claim"):
        if name in content:
            options[name] = _text(f"{path}.{name}", content[name])
    if "roles" in content:
        mapping = _group(f"{path}.roles", content["roles"])
        options["roles"] = {claim: _roles_of(f"{path}.roles.{claim}", each, roles) for claim, each in mapping.items()}
    if "default_roles" in content:
        options["default_roles"] = _roles_of(f"{path}.default_roles", content["default_roles"], roles)
    return Issuer(issuer, audience, where=value.where, **options)


def _jwks(value: Value, root: Path) -> str:
    text = _text("auth.issuers.jwks", value)
    if scheme_of(text) not in ("http", "https"):
        return _file("auth.issuers.jwks", text, value, root)
    _refuse_plain_http(text, "auth.issuers.jwks", value)
    return text


def _file(path: str, text: str, value: Value, root: Path) -> str:
    try:
        return str(root / Path(local_path(text)).expanduser())
    except NotLocal as error:
        expected = "an https address or a file" if path == "auth.issuers.jwks" else "a file"
        raise ConfigError(
            f"{path}: expected {expected}, found: {error}", hint="write a path on this machine, or file:///…",
            where=value.where,
        ) from error  # fmt: skip


def _refuse_plain_http(address: str, path: str, value: Value) -> None:
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ConfigError(
            f"{path}: keys that come over plain http may be anybody's", hint="give an https address", where=value.where
        )
    if "://" in address and parts.scheme not in ("http", "https"):
        raise ConfigError(f"{path}: expected an https address or a file", hint="give one", where=value.where)


def _algorithms(value: Value) -> tuple[str, ...]:
    names = _texts("auth.issuers.algorithms", value)
    for name in names:
        if name not in ALGORITHMS:
            why = ": a secret that is shared proves nothing about who signed" if name.startswith("HS") else ""
            raise ConfigError(
                f"auth.issuers.algorithms: {name!r} is not accepted{why}",
                hint=nearest(name, ALGORITHMS) or f"choose of {', '.join(ALGORITHMS)}",
                where=value.where,
            )
    if not names:
        raise ConfigError("auth.issuers.algorithms is empty", hint="leave it out, or name some", where=value.where)
    return names


def _leeway(value: Value) -> float:
    try:
        seconds = float(value.content)
    except (TypeError, ValueError):
        seconds = -1
    if not 0 <= seconds <= 600:
        raise ConfigError(
            "auth.issuers.leeway_s: expected seconds from 0 to 600", hint="a minute is plenty", where=value.where
        )
    return seconds


def _named_roles(path: str, value: Value, content: Mapping[str, Value], roles: Mapping[str, Role]) -> tuple[Role, ...]:
    named = _roles_of(path, _needed(path.rpartition(".")[0], content, "roles", value), roles)
    if not named:
        raise ConfigError(f"{path} is empty", hint="name a role, or remove the entry", where=value.where)
    return named


def _roles_of(path: str, value: Value, roles: Mapping[str, Role]) -> tuple[Role, ...]:
    found = []
    for name in _texts(path, value):
        if name not in roles:
            hint = nearest(name, roles) or f"the roles are {some(list(roles))}"
            raise ConfigError(f"{path}: there is no role {name!r}", hint=hint, where=value.where)
        found.append(roles[name])
    return tuple(found)


def _path(value: Value) -> str:
    text = _text("auth.public", value)
    if not text.startswith("/"):
        raise ConfigError(f"auth.public: {text!r} is no path", hint="write it as /metrics", where=value.where)
    return text


def _origin(value: Value) -> str:
    text = _text("auth.origins", value)
    parts = urlsplit(text)
    if text != "*" and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path):
        raise ConfigError(
            f"auth.origins: {text!r} is no origin", hint="write it as https://pages.example.com", where=value.where
        )
    return text


def _refuse_repeated(what: str, entries: Sequence[Any], name_of: Callable[[Any], str]) -> None:
    seen: set[str] = set()
    for each in entries:
        if name_of(each) in seen:
            raise ConfigError(f"{what} {name_of(each)!r} is there twice", hint="keep one of them", where=each.where)
        seen.add(name_of(each))


def _refuse_unknown(path: str, content: Mapping[str, Value], group: str) -> None:
    for key, value in content.items():
        if key not in _KEYS[group]:
            hint = nearest(key, _KEYS[group]) or f"the keys are {', '.join(_KEYS[group])}"
            raise ConfigError(f"{path} has no key {key!r}", hint=hint, where=value.where)


def _needed(path: str, content: Mapping[str, Value], key: str, value: Value) -> Value:
    if key not in content:
        raise ConfigError(f"{path}: no `{key}`", hint=f"give {key}", where=value.where)
    return content[key]


def _group(path: str, value: Value | None) -> dict[str, Value]:
    if value is None:
        return {}
    if value.tag != "map":
        raise ConfigError(
            f"{path}: expected a group of keys, found {value.kind}", hint="indent its keys below it", where=value.where
        )
    return value.content


def _list(path: str, value: Value | None) -> list[Value]:
    if value is None:
        return []
    if value.tag != "list":
        raise ConfigError(f"{path}: expected a list, found {value.kind}", hint="begin lines with -", where=value.where)
    return value.content


def _texts(path: str, value: Value | None) -> tuple[str, ...]:
    if value is not None and value.tag == "str":
        return (_text(path, value),)
    return tuple(_text(path, each) for each in _list(path, value))


def _text(path: str, value: Value) -> str:
    if value.tag in ("map", "list", "null") or not str(value.content):
        raise ConfigError(f"{path}: expected text, found {value.kind}", hint=f"give {path}", where=value.where)
    return str(value.content)
