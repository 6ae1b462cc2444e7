"""`auth:` of feature_store.yaml: what is taken, and how each mistake is named."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from asof.config import load_config
from asof.config.auth import ApiKey, Auth, Certificate, Issuer, Role
from asof.errors import ConfigError
from asof.timing import micros

HASH = "sha256:" + "0" * 64


def auth_of(tmp_path: Path, text: str) -> Auth:
    (tmp_path / "feature_store.yaml").write_text("project: shop\nauth:\n" + indent(dedent(text).strip("\n"), "  "))
    return load_config(tmp_path, environ={}).auth


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    auth = auth_of(
        tmp_path,
        f"""
        keys:
          - {{id: 4f2a, hash: "{HASH}", name: ranking, roles: [read], expires: 2027-01-01T00:00:00Z}}
        issuers:
          - issuer: https://login.example.com/
            audience: asof
            jwks: keys.json
            algorithms: [PS256]
            leeway_s: 5
            name_claim: email
            roles_claim: realm_access.roles
            roles: {{ml: [write, fraud]}}
            default_roles: [read]
        certificates:
          - {{subject: "CN=feeder, O=Shop", roles: write}}
        roles:
          fraud: {{allow: read, tags: {{team: fraud}}, projects: [shop]}}
        public: [/metrics]
        origins: [https://pages.example.com]
        audit: logs/audit.jsonl
        """,
    )

    fraud = Role("fraud", "read", {"team": "fraud"}, ("shop",))
    read, write = Role("read", "read"), Role("write", "write")
    assert auth.keys == (
        ApiKey("4f2a", HASH, "ranking", (read,), micros("2027-01-01T00:00:00Z"), "feature_store.yaml:4"),
    )
    assert auth.issuers == (
        Issuer(
            "https://login.example.com/", ("asof",), str(tmp_path / "keys.json"), ("PS256",), 5, "email",
            "realm_access.roles", {"ml": (write, fraud)}, (read,), "feature_store.yaml:6",
        ),
    )  # fmt: skip
    assert auth.certificates == (
        Certificate("CN=feeder,O=Shop", "CN=feeder,O=Shop", (write,), "feature_store.yaml:16"),
    )
    assert (auth.public, auth.origins) == (("/metrics",), ("https://pages.example.com",))
    assert auth.audit == str(tmp_path / "logs/audit.jsonl")
    assert auth.is_on


def test_without_a_section_nobody_has_to_say_who_they_are(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")

    assert not load_config(tmp_path).auth.is_on


def test_feasts_no_auth_is_taken(tmp_path: Path) -> None:
    assert not auth_of(tmp_path, "type: no_auth").is_on


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        ("type: kubernetes", "does not protect an Asof server", 3),
        ("type: oidc\nauth_discovery_url: https://x", "is a setting of Feast", 3),
        ("key: []", "did you mean 'keys'", 3),
        ("keys: {id: x}", "auth.keys: expected a list, found a group of keys", 3),
        ("keys:\n  - {hash: 'x', roles: [read]}", "auth.keys: `id` is missing", 4),
        (f"keys:\n  - {{id: 4f2a, hash: '{HASH}'}}", "auth.keys: `roles` is missing", 4),
        (f"keys:\n  - {{id: 4f2a, hash: '{HASH}', roles: []}}", "auth.keys.roles is empty", 4),
        (f"keys:\n  - {{id: 4f2a, hash: '{HASH}', roles: [reed]}}", "did you mean 'read'", 4),
        (f"keys:\n  - {{id: 'a b', hash: '{HASH}', roles: [read]}}", "4 to 32 lower-case letters and digits", 4),
        (f"keys:\n  - {{id: 4f2a, hash: '{HASH}', roles: [read], expires: soon}}", "expected a time, found 'soon'", 4),
        (
            f"keys:\n  - {{id: 4f2a, hash: '{HASH}', roles: [read]}}\n  - {{id: 4f2a, hash: '{HASH}', roles: [read]}}",
            "key id '4f2a' is given twice", 5,
        ),
        ("roles:\n  admin: {allow: read}", "role 'admin' exists already", 4),
        ("roles:\n  mine: {allow: reading}", "did you mean 'read'", 4),
        ("roles:\n  mine: {tags: {a: b}}", "auth.roles.mine: `allow` is missing", 4),
        ("roles:\n  mine: {allow: read, tags: {}}", "auth.roles.mine.tags is empty", 4),
        ("roles:\n  mine: {allow: read, projects: []}", "auth.roles.mine.projects is empty", 4),
        ("roles:\n  mine: {allow: read, tag: {a: b}}", "did you mean 'tags'", 4),
        ("certificates:\n  - {subject: feeder, roles: [read]}", "is not a certificate subject", 4),
        ("issuers:\n  - {issuer: https://a}", "auth.issuers: `audience` is missing", 4),
        ("issuers:\n  - {issuer: acme, audience: x}", "is not a URL, so its public keys cannot be found", 4),
        ("issuers:\n  - {issuer: http://login.example.com, audience: x}", "over plain http could be forged", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: http://keys.example.com}", "over plain http could be forged", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: ftp://keys.example.com}", "an https URL or a file", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: k, algorithms: [HS256]}", "a shared secret does not prove who signed", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: k, algorithms: [none]}", "'none' is not accepted", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: k, algorithms: []}", "algorithms is empty", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: k, leeway_s: 3600}", "seconds from 0 to 600", 4),
        ("issuers:\n  - {issuer: a, audience: x, jwks: k, roles: {ml: [boss]}}", "there is no role 'boss'", 4),
        ("public: [metrics]", "is not a path", 3),
        ("origins: [pages.example.com]", "is not an origin", 3),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_line(tmp_path: Path, text: str, says: str, line: int) -> None:
    with pytest.raises(ConfigError) as raised:
        auth_of(tmp_path, text)

    assert says in str(raised.value)
    assert raised.value.where == f"feature_store.yaml:{line}"
    assert raised.value.hint


def test_a_key_in_the_place_of_its_hash_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        auth_of(tmp_path, "keys:\n  - {id: 4f2a, hash: asof_4f2a_verysecret, roles: [read]}")

    assert "verysecret" not in str(raised.value)


def test_plain_http_is_good_enough_for_keys_on_this_machine(tmp_path: Path) -> None:
    (issuer,) = auth_of(tmp_path, "issuers:\n  - {issuer: a, audience: x, jwks: 'http://127.0.0.1:9/k'}").issuers

    assert issuer.jwks == "http://127.0.0.1:9/k"
