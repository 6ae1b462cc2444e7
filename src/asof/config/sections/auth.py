"""`auth:`, who may use the feature server, as it is written; `asof.config.auth` makes principals of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from asof.config.sections.kinds import Doc, Kind, OneOrMore, Scalar, Section

Roles = Annotated[OneOrMore, Kind("list", "a list of text", hint="name a role, or remove the entry")]
KeyId = Annotated[
    str,
    Meta(pattern=r"^[0-9a-z]{4,32}\Z"),
    Kind("text", "text", refusal="{path}: expected 4 to 32 small letters and digits",
         hint="let `asof keys new` make it", takes_scalars=True),
]  # fmt: skip
Hash = Annotated[
    str,
    Meta(pattern=r"^sha256:[0-9a-f]{64}\Z"),
    # What is there may be the key itself, so it is not shown.
    Kind("text", "text", refusal="{path} is not the hash of a key",
         hint="write what `asof keys new` prints, never the key itself", takes_scalars=True),
]  # fmt: skip
Subject = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z]+=[^,]+(,\s*[A-Za-z]+=[^,]+)*\Z"),
    Kind("text", "text", refusal="{path} {found} is no subject", hint="write it as CN=feeder,O=Shop"),
]
UrlPath = Annotated[
    str, Meta(pattern=r"^/"), Kind("text", "text", refusal="{path}: {found} is no path", hint="write it as /metrics")
]
Origin = Annotated[
    str,
    Meta(pattern=r"^(\*|https?://[^/?#\s]+)\Z"),
    Kind("text", "text", refusal="{path}: {found} is no origin", hint="write it as https://pages.example.com"),
]
Expiry = Annotated[
    str,
    Kind("moment", "a moment", refusal="{path}: expected a moment, found {found}",
         hint="write for example 2027-01-01T00:00:00Z"),
]  # fmt: skip
Audit = Annotated[str, Meta(min_length=1), Kind("path", "text", words=("stderr", "off"), takes_scalars=True)]
Leeway = Annotated[float, Meta(ge=0, le=600)]


class Key(Section, frozen=True, kw_only=True):
    """A key that is accepted."""

    SECTION: ClassVar[str] = "auth.keys"

    id: Annotated[KeyId, Doc("Its public half, which `asof keys new` makes.")]
    hash: Annotated[Hash, Doc("The hash of its secret half: `sha256:` and 64 hex digits.")]
    name: Annotated[Scalar | None, Doc("Who has it, in logs; else `key ID`.")] = None
    roles: Annotated[Roles, Doc("What its holder may do: names of roles.")]
    expires: Annotated[Expiry | None, Doc("From then on it is refused; never where left out.")] = None


class Issuer(Section, frozen=True, kw_only=True):
    """One whose signed tokens are accepted."""

    SECTION: ClassVar[str] = "auth.issuers"

    issuer: Annotated[Scalar, Doc("Its name, as in the tokens' `iss`; an address, where `jwks` is left out.")]
    # A token for another service of the same issuer must not open this one.
    audience: Annotated[OneOrMore, Doc("What the tokens' `aud` has to be; one of these.")]
    jwks: Annotated[
        Scalar | None,
        Doc("An address or a path of its public keys; else its discovery document says where they are."),
    ] = None
    algorithms: Annotated[
        OneOrMore, Doc("The signatures that are accepted: those with a private and a public key.")
    ] = field(default_factory=lambda: ["RS256", "ES256", "EdDSA"])  # fmt: skip
    leeway_s: Annotated[Leeway, Doc("How far its clock may be off.")] = 30
    name_claim: Annotated[Scalar, Doc("The claim that says who it is; `a.b` is b inside of a.")] = "sub"
    roles_claim: Annotated[Scalar, Doc("The claim that says which roles they have.")] = "roles"
    roles: Annotated[
        dict[str, Annotated[list[Scalar], Kind("list", "a list of text")]] | None,
        Doc("Value of that claim → names of roles; else its values are names of roles."),
    ] = None
    default_roles: Annotated[
        Annotated[list[Scalar], Kind("list", "a list of text")] | None,
        Doc("The roles of everybody whose token is good."),
    ] = None


class Certificate(Section, frozen=True, kw_only=True):
    """A client certificate that is accepted."""

    SECTION: ClassVar[str] = "auth.certificates"

    subject: Annotated[Subject, Doc("Its subject, as `CN=feeder,O=Shop`.")]
    name: Annotated[Scalar | None, Doc("Who has it, in logs; else the subject.")] = None
    roles: Annotated[Roles, Doc("What its holder may do: names of roles.")]


class Role(Section, frozen=True, kw_only=True):
    """A role beside `read`, `write` and `admin`, which are always there."""

    SECTION: ClassVar[str] = "auth.roles.*"

    allow: Annotated[
        Literal["read", "write", "admin"], Doc("What its holders may do; each word includes those before it.")
    ]
    # An empty list reads like "none", and would mean "all".
    tags: Annotated[
        Annotated[dict[str, Scalar], Meta(min_length=1), Kind("settings", hint="leave it out to mean all")] | None,
        Doc("Only with views that have all of these tags; with every view where left out."),
    ] = None
    projects: Annotated[
        Annotated[OneOrMore, Kind("list", "a list of text", hint="leave it out to mean all")] | None,
        Doc("Only in these projects; in every one where left out."),
    ] = None


class Auth(Section, frozen=True, kw_only=True):
    """All of `auth:`."""

    SECTION: ClassVar[str] = "auth"

    keys: Annotated[list[Key] | None, Doc("The keys that are accepted: groups of the keys below.")] = None
    issuers: Annotated[list[Issuer] | None, Doc("Whose signed tokens are accepted.")] = None
    certificates: Annotated[list[Certificate] | None, Doc("The client certificates that are accepted.")] = None
    roles: Annotated[
        dict[str, Role] | None, Doc("Roles by name, beside `read`, `write` and `admin`.")
    ] = None  # fmt: skip
    public: Annotated[
        list[UrlPath] | None, Doc("Paths that need no key, beside those that say whether the server is well.")
    ] = None
    origins: Annotated[list[Origin] | None, Doc("Web pages that may call the server from a browser.")] = None
    audit: Annotated[
        Audit | None,
        Doc(
            "Where writes and administration are written down: a path, `stderr`, or `off`; stderr where callers say "
            "who they are, if left out."
        ),
    ] = None
