"""`auth:`, who may use the feature server, as configured; `asof.config.auth` makes principals of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from asof.config.sections.kinds import OneOrMore, OptionDoc, Scalar, Section, ValueKind
from asof.defaults import NAME_CLAIM, ROLES_CLAIM, TOKEN_ALGORITHMS, TOKEN_LEEWAY_S

Roles = Annotated[OneOrMore, ValueKind("list", "a list of text", hint="name a role, or remove the entry")]
KeyId = Annotated[
    str,
    Meta(pattern=r"^[0-9a-z]{4,32}\Z"),
    ValueKind("text", "text", refusal="{path}: expected 4 to 32 lower-case letters and digits",
         hint="create it with `asof keys new`", takes_scalars=True),
]  # fmt: skip
Hash = Annotated[
    str,
    Meta(pattern=r"^sha256:[0-9a-f]{64}\Z"),
    # The value may be the key itself, so messages do not show it.
    ValueKind("text", "text", refusal="{path} is not the hash of a key",
         hint="write what `asof keys new` prints, never the key itself", takes_scalars=True),
]  # fmt: skip
Subject = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z]+=[^,]+(,\s*[A-Za-z]+=[^,]+)*\Z"),
    ValueKind(
        "text", "text", refusal="{path}: {found} is not a certificate subject", hint="write it as CN=feeder,O=Shop"
    ),
]
UrlPath = Annotated[
    str,
    Meta(pattern=r"^/"),
    ValueKind("text", "text", refusal="{path}: {found} is not a path", hint="write it as /metrics"),
]
Origin = Annotated[
    str,
    Meta(pattern=r"^(\*|https?://[^/?#\s]+)\Z"),
    ValueKind("text", "text", refusal="{path}: {found} is not an origin", hint="write it as https://pages.example.com"),
]
Expiry = Annotated[
    str,
    ValueKind("moment", "a time", refusal="{path}: expected a time, found {found}",
         hint="write for example 2027-01-01T00:00:00Z"),
]  # fmt: skip
Audit = Annotated[str, Meta(min_length=1), ValueKind("path", "text", literals=("stderr", "off"), takes_scalars=True)]
Leeway = Annotated[float, Meta(ge=0, le=600)]


class KeySection(Section, frozen=True, kw_only=True):
    """A key that is accepted."""

    SECTION: ClassVar[str] = "auth.keys"

    id: Annotated[KeyId, OptionDoc("Its public ID, from `asof keys new`.")]
    hash: Annotated[Hash, OptionDoc("The hash of the key's secret: `sha256:` and 64 hex digits.")]
    name: Annotated[Scalar | None, OptionDoc("The holder's name in logs; default `key ID`.")] = None
    roles: Annotated[Roles, OptionDoc("Names of its holder's roles.")]
    expires: Annotated[
        Expiry | None, OptionDoc("Time from which the key is refused; it never expires if left out.")
    ] = None


class IssuerSection(Section, frozen=True, kw_only=True):
    """An issuer whose signed tokens are accepted."""

    SECTION: ClassVar[str] = "auth.issuers"

    issuer: Annotated[Scalar, OptionDoc("The tokens' `iss`; a URL if `jwks` is left out.")]
    # A token for another service of the same issuer must not open this one.
    audience: Annotated[OneOrMore, OptionDoc("The accepted values of the tokens' `aud`.")]
    jwks: Annotated[
        Scalar | None,
        OptionDoc("URL or path of its public keys; by default, the URL in its discovery document."),
    ] = None
    algorithms: Annotated[
        OneOrMore, OptionDoc("The accepted signature algorithms, all asymmetric.")
    ] = field(default_factory=lambda: list(TOKEN_ALGORITHMS))  # fmt: skip
    leeway_s: Annotated[Leeway, OptionDoc("Tolerated clock difference.")] = TOKEN_LEEWAY_S
    name_claim: Annotated[Scalar, OptionDoc("The claim with the caller's name; `a.b` is b inside a.")] = NAME_CLAIM
    roles_claim: Annotated[Scalar, OptionDoc("The claim with the caller's roles.")] = ROLES_CLAIM
    roles: Annotated[
        dict[str, Annotated[list[Scalar], ValueKind("list", "a list of text")]] | None,
        OptionDoc("Value of the roles claim → names of roles; by default, its values are names of roles."),
    ] = None
    default_roles: Annotated[
        Annotated[list[Scalar], ValueKind("list", "a list of text")] | None,
        OptionDoc("The roles of every caller with a valid token."),
    ] = None


class CertificateSection(Section, frozen=True, kw_only=True):
    """A client certificate that is accepted."""

    SECTION: ClassVar[str] = "auth.certificates"

    subject: Annotated[Subject, OptionDoc("Its subject, such as `CN=feeder,O=Shop`.")]
    name: Annotated[Scalar | None, OptionDoc("The holder's name in logs; default: the subject.")] = None
    roles: Annotated[Roles, OptionDoc("Names of its holder's roles.")]


class RoleSection(Section, frozen=True, kw_only=True):
    """A role in addition to `read`, `write` and `admin`, which always exist."""

    SECTION: ClassVar[str] = "auth.roles.*"

    allow: Annotated[
        Literal["read", "write", "admin"], OptionDoc("What its holders may do; each action includes those before it.")
    ]
    # An empty list reads like "none", and would mean "all".
    tags: Annotated[
        Annotated[dict[str, Scalar], Meta(min_length=1), ValueKind("settings", hint="leave it out to mean all")] | None,
        OptionDoc("Limits access to views with all of these tags; every view if left out."),
    ] = None
    projects: Annotated[
        Annotated[OneOrMore, ValueKind("list", "a list of text", hint="leave it out to mean all")] | None,
        OptionDoc("Limits access to these projects; every project if left out."),
    ] = None


class AuthSection(Section, frozen=True, kw_only=True):
    """All of `auth:`."""

    SECTION: ClassVar[str] = "auth"

    keys: Annotated[list[KeySection] | None, OptionDoc("The accepted keys: groups of the options below.")] = None
    issuers: Annotated[list[IssuerSection] | None, OptionDoc("The issuers whose signed tokens are accepted.")] = None
    certificates: Annotated[list[CertificateSection] | None, OptionDoc("The accepted client certificates.")] = None
    roles: Annotated[
        dict[str, RoleSection] | None, OptionDoc("Roles by name, in addition to `read`, `write` and `admin`.")
    ] = None  # fmt: skip
    public: Annotated[list[UrlPath] | None, OptionDoc("Paths that need no key, in addition to the health checks.")] = (
        None
    )
    origins: Annotated[
        list[Origin] | None, OptionDoc("Origins of web pages that may call the server from a browser.")
    ] = None
    audit: Annotated[
        Audit | None,
        OptionDoc(
            "Where writes and administration are logged: a path, `stderr`, or `off`; by default `stderr` if callers "
            "authenticate."
        ),
    ] = None
