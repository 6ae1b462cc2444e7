"""`auth:`, who may use the feature server, as it is written; `asof.config.auth` makes principals of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from asof.config.sections.kinds import OneOrMore, OptionDoc, Scalar, Section, ValueKind

Roles = Annotated[OneOrMore, ValueKind("list", "a list of text", hint="name a role, or remove the entry")]
KeyId = Annotated[
    str,
    Meta(pattern=r"^[0-9a-z]{4,32}\Z"),
    ValueKind("text", "text", refusal="{path}: expected 4 to 32 small letters and digits",
         hint="let `asof keys new` make it", takes_scalars=True),
]  # fmt: skip
Hash = Annotated[
    str,
    Meta(pattern=r"^sha256:[0-9a-f]{64}\Z"),
    # What is there may be the key itself, so it is not shown.
    ValueKind("text", "text", refusal="{path} is not the hash of a key",
         hint="write what `asof keys new` prints, never the key itself", takes_scalars=True),
]  # fmt: skip
Subject = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z]+=[^,]+(,\s*[A-Za-z]+=[^,]+)*\Z"),
    ValueKind("text", "text", refusal="{path} {found} is no subject", hint="write it as CN=feeder,O=Shop"),
]
UrlPath = Annotated[
    str,
    Meta(pattern=r"^/"),
    ValueKind("text", "text", refusal="{path}: {found} is no path", hint="write it as /metrics"),
]
Origin = Annotated[
    str,
    Meta(pattern=r"^(\*|https?://[^/?#\s]+)\Z"),
    ValueKind("text", "text", refusal="{path}: {found} is no origin", hint="write it as https://pages.example.com"),
]
Expiry = Annotated[
    str,
    ValueKind("moment", "a moment", refusal="{path}: expected a moment, found {found}",
         hint="write for example 2027-01-01T00:00:00Z"),
]  # fmt: skip
Audit = Annotated[str, Meta(min_length=1), ValueKind("path", "text", words=("stderr", "off"), takes_scalars=True)]
Leeway = Annotated[float, Meta(ge=0, le=600)]


class KeySection(Section, frozen=True, kw_only=True):
    """A key that is accepted."""

    SECTION: ClassVar[str] = "auth.keys"

    id: Annotated[KeyId, OptionDoc("Its public half, which `asof keys new` makes.")]
    hash: Annotated[Hash, OptionDoc("The hash of its secret half: `sha256:` and 64 hex digits.")]
    name: Annotated[Scalar | None, OptionDoc("Who has it, in logs; else `key ID`.")] = None
    roles: Annotated[Roles, OptionDoc("What its holder may do: names of roles.")]
    expires: Annotated[Expiry | None, OptionDoc("From then on it is refused; never where left out.")] = None


class IssuerSection(Section, frozen=True, kw_only=True):
    """One whose signed tokens are accepted."""

    SECTION: ClassVar[str] = "auth.issuers"

    issuer: Annotated[Scalar, OptionDoc("Its name, as in the tokens' `iss`; an address, where `jwks` is left out.")]
    # A token for another service of the same issuer must not open this one.
    audience: Annotated[OneOrMore, OptionDoc("What the tokens' `aud` has to be; one of these.")]
    jwks: Annotated[
        Scalar | None,
        OptionDoc("An address or a path of its public keys; else its discovery document says where they are."),
    ] = None
    algorithms: Annotated[
        OneOrMore, OptionDoc("The signatures that are accepted: those with a private and a public key.")
    ] = field(default_factory=lambda: ["RS256", "ES256", "EdDSA"])  # fmt: skip
    leeway_s: Annotated[Leeway, OptionDoc("How far its clock may be off.")] = 30
    name_claim: Annotated[Scalar, OptionDoc("The claim that says who it is; `a.b` is b inside of a.")] = "sub"
    roles_claim: Annotated[Scalar, OptionDoc("The claim that says which roles they have.")] = "roles"
    roles: Annotated[
        dict[str, Annotated[list[Scalar], ValueKind("list", "a list of text")]] | None,
        OptionDoc("Value of that claim → names of roles; else its values are names of roles."),
    ] = None
    default_roles: Annotated[
        Annotated[list[Scalar], ValueKind("list", "a list of text")] | None,
        OptionDoc("The roles of everybody whose token is good."),
    ] = None


class CertificateSection(Section, frozen=True, kw_only=True):
    """A client certificate that is accepted."""

    SECTION: ClassVar[str] = "auth.certificates"

    subject: Annotated[Subject, OptionDoc("Its subject, as `CN=feeder,O=Shop`.")]
    name: Annotated[Scalar | None, OptionDoc("Who has it, in logs; else the subject.")] = None
    roles: Annotated[Roles, OptionDoc("What its holder may do: names of roles.")]


class RoleSection(Section, frozen=True, kw_only=True):
    """A role beside `read`, `write` and `admin`, which are always there."""

    SECTION: ClassVar[str] = "auth.roles.*"

    allow: Annotated[
        Literal["read", "write", "admin"], OptionDoc("What its holders may do; each word includes those before it.")
    ]
    # An empty list reads like "none", and would mean "all".
    tags: Annotated[
        Annotated[dict[str, Scalar], Meta(min_length=1), ValueKind("settings", hint="leave it out to mean all")] | None,
        OptionDoc("Only with views that have all of these tags; with every view where left out."),
    ] = None
    projects: Annotated[
        Annotated[OneOrMore, ValueKind("list", "a list of text", hint="leave it out to mean all")] | None,
        OptionDoc("Only in these projects; in every one where left out."),
    ] = None


class AuthSection(Section, frozen=True, kw_only=True):
    """All of `auth:`."""

    SECTION: ClassVar[str] = "auth"

    keys: Annotated[list[KeySection] | None, OptionDoc("The keys that are accepted: groups of the keys below.")] = None
    issuers: Annotated[list[IssuerSection] | None, OptionDoc("Whose signed tokens are accepted.")] = None
    certificates: Annotated[
        list[CertificateSection] | None, OptionDoc("The client certificates that are accepted.")
    ] = None
    roles: Annotated[
        dict[str, RoleSection] | None, OptionDoc("Roles by name, beside `read`, `write` and `admin`.")
    ] = None  # fmt: skip
    public: Annotated[
        list[UrlPath] | None, OptionDoc("Paths that need no key, beside those that say whether the server is well.")
    ] = None
    origins: Annotated[list[Origin] | None, OptionDoc("Web pages that may call the server from a browser.")] = None
    audit: Annotated[
        Audit | None,
        OptionDoc(
            "Where writes and administration are written down: a path, `stderr`, or `off`; stderr where callers say "
            "who they are, if left out."
        ),
    ] = None
