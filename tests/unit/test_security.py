"""Who may use a server: keys, tokens, certificates, roles, and where a server may listen."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from asof.config.auth import ACTIONS, ApiKey, Auth, Certificate, Issuer, Role
from asof.errors import ConfigError, NotAllowed, NotAuthenticated, Overloaded
from asof.server.security.audit import AuditLog
from asof.server.security.binding import cleartext_note, is_foreign_page, refuse_foreign_host, refuse_open
from asof.server.security.callers import Caller
from asof.server.security.checks import security_checks
from asof.server.security.guard import Guard
from asof.server.security.key_sets import KEEP_S, MAX_AGE_S, WAIT_S, KeySet, discovered, parse_keys
from asof.server.security.keys import KeyRing, hash_of, new_key
from asof.server.security.principals import Principal
from asof.server.security.tokens import KeysNeeded
from asof.timing import DAY, SECOND, micros

NOW = micros("2026-01-01T12:00:00Z")
READ, WRITE, ADMIN = (Role(action, action) for action in ACTIONS)
BUILT_IN = {role.name: role for role in (READ, WRITE, ADMIN)}


def caller(credential: str = "", *, header: str = "authorization", certificate: Any = None) -> Any:
    value = f"Bearer {credential}" if header == "authorization" else credential
    headers = [(b"host", b"x"), (header.encode(), value.encode())] if credential else []
    return Caller(headers, certificate, "127.0.0.1", "POST", "/v1/features")


def test_a_request_with_many_origins_is_looked_through_a_few_times_only() -> None:
    looked = 0

    class Headers(list[Any]):
        def __iter__(self) -> Any:
            nonlocal looked
            looked += 1
            return super().__iter__()

    pages = [b"http://localhost", b"http://127.0.0.1:80", b"https://shop.example"]
    headers = Headers([*((b"origin", page) for page in pages * 500), (b"host", b"shop.example")])
    key = new_key()
    guard = Guard(Auth(keys=[ApiKey(key.id, key.hash, "one", (READ,), None)]), project="shop")
    headers.append((b"x-api-key", key.text.encode()))

    assert guard.authenticate(Caller(headers, None, "127.0.0.1", "POST", "/v1/features")).name == "one"
    assert looked < 5
    headers.insert(700, (b"origin", b"https://evil.example"))
    with pytest.raises(NotAllowed, match="evil.example"):
        guard.authenticate(Caller(headers, None, "127.0.0.1", "POST", "/v1/features"))


# ---- API keys ----


def ring_of(key: Any, *, expires: int | None = None) -> KeyRing:
    return KeyRing([ApiKey(key.id, key.hash, "ranking", (READ,), expires)])


def test_a_new_key_is_accepted_and_only_its_hash_is_kept() -> None:
    key = new_key()

    assert ring_of(key).check(key.text, NOW).name == "ranking"
    secret = key.text.split("_", 2)[2]
    assert len(secret) == 43 and secret not in key.hash and secret not in repr(key)


def test_no_two_keys_are_the_same() -> None:
    assert len({new_key().text for _ in range(100)} | {new_key().id for _ in range(100)}) == 200


@pytest.mark.parametrize(
    "tampered",
    [
        lambda key: key.text[:-1] + ("A" if key.text[-1] != "A" else "B"),
        lambda key: key.text[:-1],
        lambda key: key.text + "A",
        lambda key: new_key().text,
        lambda key: f"asof_{key.id}_",
        lambda key: f"asof_{key.id}",
        lambda key: f"asof_{key.id}_{key.hash}",
        lambda key: f"asof_{key.id}_{key.hash.removeprefix('sha256:')}",
        lambda key: "asof_",
        lambda key: f"asof_{key.id}_{'é' * 43}",
    ],
)
def test_a_key_that_was_tampered_with_is_refused_in_the_same_words(tampered: Callable[[Any], str]) -> None:
    key = new_key()

    with pytest.raises(NotAuthenticated, match="the API key is unknown"):
        ring_of(key).check(tampered(key), NOW)


def test_a_key_ends_at_its_time() -> None:
    key = new_key()
    ring = ring_of(key, expires=NOW)

    assert ring.check(key.text, NOW - 1)
    with pytest.raises(NotAuthenticated, match="expired at 2026-01-01T12:00:00Z"):
        ring.check(key.text, NOW)


# ---- roles ----

FRAUD = SimpleNamespace(name="fraud_score", tags={"team": "fraud", "tier": "1"})
SHOP = SimpleNamespace(name="basket", tags={"team": "shop"})
PLAIN = SimpleNamespace(name="plain", tags={})
OF_FRAUD = {action: Role(f"fraud_{action}", action, {"team": "fraud"}) for action in ACTIONS}
ELSEWHERE = Role("elsewhere", "admin", {}, ("other",))
HERE = Role("here", "write", {}, ("other", "shop"))
STRICT = Role("strict", "read", {"team": "fraud", "tier": "2"})

MATRIX: list[tuple[list[Role], list[Any], str]] = [
    # roles, views, the greatest action that is allowed ("" is none)
    ([], [FRAUD], ""),
    ([], [], ""),
    ([READ], [FRAUD, SHOP, PLAIN], "read"),
    ([READ], [], "read"),
    ([WRITE], [SHOP], "write"),
    ([ADMIN], [], "admin"),
    ([OF_FRAUD["read"]], [FRAUD], "read"),
    ([OF_FRAUD["write"]], [FRAUD], "write"),
    ([OF_FRAUD["admin"]], [FRAUD], "admin"),
    ([OF_FRAUD["admin"]], [FRAUD, SHOP], ""),
    ([OF_FRAUD["admin"]], [PLAIN], ""),
    ([OF_FRAUD["admin"]], [], ""),
    ([READ, OF_FRAUD["write"]], [FRAUD], "write"),
    ([READ, OF_FRAUD["write"]], [FRAUD, SHOP], "read"),
    ([READ, OF_FRAUD["write"]], [], "read"),
    ([STRICT], [FRAUD], ""),
    ([STRICT, OF_FRAUD["read"]], [FRAUD], "read"),
    ([ELSEWHERE], [FRAUD], ""),
    ([ELSEWHERE], [], ""),
    ([HERE], [], "write"),
    ([OF_FRAUD["read"], Role("shops", "read", {"team": "shop"})], [FRAUD, SHOP], "read"),
    ([OF_FRAUD["read"], Role("shops", "write", {"team": "shop"})], [FRAUD, SHOP], "read"),
]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("roles", "views", "greatest"), MATRIX)
def test_what_roles_allow(roles: list[Role], views: list[Any], greatest: str, action: str) -> None:
    principal = Principal("ranking", "key", roles=roles, project="shop")
    allowed = bool(greatest) and ACTIONS.index(action) <= ACTIONS.index(greatest)

    assert principal.may(action, views) == allowed
    if allowed:
        principal.require(action, views)
    else:
        with pytest.raises(NotAllowed, match=f"key 'ranking' lacks the {action} role"):
            principal.require(action, views)


def test_a_refusal_names_the_views_it_is_about() -> None:
    principal = Principal("ranking", "key", roles=[OF_FRAUD["read"]], project="shop")

    with pytest.raises(NotAllowed, match="lacks the read role for feature views 'basket', 'plain'"):
        principal.require("read", [FRAUD, SHOP, PLAIN])


# ---- tokens ----

ISSUER = "https://login.example.com"
KEYS = {"one": ec.generate_private_key(ec.SECP256R1()), "two": ec.generate_private_key(ec.SECP256R1())}
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
FOREIGN = ec.generate_private_key(ec.SECP256R1())


def jwks(*kids: str, **more: Any) -> bytes:
    keys = [json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEYS[kid].public_key())) | {"kid": kid} for kid in kids]
    return json.dumps({"keys": [*keys, *more.values()]}).encode()


def token(kid: str | None = "one", *, key: Any = None, algorithm: str = "ES256", **claims: Any) -> str:
    now = int(time.time())
    known = {"iss": ISSUER, "aud": "asof", "sub": "ada", "exp": now + 60, "roles": ["read"]} | claims
    return jwt.encode(
        {name: value for name, value in known.items() if value is not None},
        KEYS[kid or "one"] if key is None else key, algorithm=algorithm,
        headers={"kid": kid} if kid else {},
    )  # fmt: skip


class Place:
    """Where an issuer's keys are, and how often they were asked for."""

    def __init__(self, *kids: str) -> None:
        self.answer: bytes | Exception = jwks(*kids)
        self.asked = 0
        self.now = 1000.0

    def read(self) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def keys(self) -> KeySet:
        return KeySet(ISSUER, self.read, clock=lambda: self.now)


def guard_of(place: Place, **issuer: Any) -> Guard:
    options = {"audience": ("asof",), "leeway_s": 10} | issuer
    auth = Auth(issuers=(Issuer(ISSUER, **options),), roles=BUILT_IN)
    clock = lambda: int((time.time() + place.now - 1000) * SECOND)  # noqa: E731
    return Guard(auth, project="shop", clock=clock, key_sets={ISSUER: place.keys()})


def identify(guard: Guard, text: str) -> Principal:
    return asyncio.run(guard.identify(caller(text)))


def test_a_good_token_gives_name_and_roles() -> None:
    principal = identify(guard_of(Place("one")), token())

    assert (principal.name, principal.how) == ("ada", "token")
    assert principal.may("read") and not principal.may("write")


BAD = {
    "expired": (lambda: token(exp=int(time.time()) - 11), "has expired"),
    "not yet": (lambda: token(nbf=int(time.time()) + 60), "is not valid yet"),
    "issued later": (lambda: token(iat=int(time.time()) + 60), "is not valid yet"),
    "no end": (lambda: token(exp=None), "has no claim 'exp'"),
    "endless": (lambda: token(exp="never"), "cannot be accepted"),
    "wrong audience": (lambda: token(aud="billing"), "is for another audience; expected 'asof'"),
    "no audience": (lambda: token(aud=None), "has no claim 'aud'"),
    "wrong issuer": (lambda: token(iss="https://evil.example.com"), "which is not in auth.issuers"),
    "no issuer": (lambda: token(iss=None), "which is not in auth.issuers"),
    "a list of issuers": (lambda: unsigned_claims({"iss": [ISSUER]}), "not in auth.issuers|readable"),
    "foreign key": (lambda: token(key=FOREIGN), "has an invalid signature"),
    "unknown key": (lambda: token("three", key=FOREIGN), r"is signed with a key \(three\)"),
    "no key named of many": (lambda: token(None), "a key .without an ID."),
    "no signature": (lambda: token(algorithm="none", key=""), "is signed with 'none'"),
    "secret is the public key": (lambda: hmac_with_public_key(), "is signed with 'HS256'"),
    "another algorithm": (lambda: token(key=RSA, algorithm="RS256"), "is signed with a key|signature|cannot"),
    "tampered": (lambda: tampered(token()), "has an invalid signature"),
    "no name": (lambda: token(sub=None), "has no claim 'sub'"),
    "no token": (lambda: "hunter2", "neither an API key nor a readable token"),
    "half a token": (lambda: token().rpartition(".")[0], "neither an API key nor a readable token"),
    "a long one": (lambda: "x" * 20_000, "longer than 16384 characters"),
}  # fmt: skip


def hmac_with_public_key() -> str:
    """The classic: an HMAC whose secret is the key that everybody can read."""
    import base64
    import hashlib
    import hmac

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    claims = {"iss": ISSUER, "aud": "asof", "sub": "eve", "exp": int(time.time()) + 60, "roles": ["admin"]}
    text = part({"alg": "HS256", "kid": "one"}) + b"." + part(claims)
    signature = hmac.new(jwks("one"), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def unsigned_claims(claims: dict[str, Any]) -> str:
    import base64

    head, _, signature = token().split(".")
    return ".".join([head, base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode(), signature])


def tampered(text: str) -> str:
    """The same token with a role more, and the signature it had."""
    claims = jwt.decode(text, options={"verify_signature": False})
    return unsigned_claims(claims | {"roles": ["admin"]})


@pytest.mark.parametrize("what", BAD)
def test_a_bad_token_is_refused_with_the_reason(what: str) -> None:
    make, says = BAD[what]
    guard = guard_of(Place("one", "two"), algorithms=("ES256", "RS256"))
    bad = make()

    for _ in range(2):
        with pytest.raises(NotAuthenticated, match=says) as raised:
            identify(guard, bad)
        assert raised.value.hint
        assert bad not in str(raised.value)


def test_clocks_may_differ_by_the_leeway() -> None:
    guard = guard_of(Place("one"))

    assert identify(guard, token(exp=int(time.time()) - 5)).name == "ada"
    assert identify(guard, token(nbf=int(time.time()) + 5)).name == "ada"


@pytest.mark.parametrize("kid", ["one", None])
def test_the_only_key_needs_no_id(kid: str | None) -> None:
    assert identify(guard_of(Place("one")), token(kid)).name == "ada"


def test_rsa_keys_do_too_with_the_algorithm_that_the_token_says() -> None:
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "rsa"}
    place = Place()
    place.answer = json.dumps({"keys": [key]}).encode()
    guard = guard_of(place, algorithms=("PS256", "RS256"))

    assert identify(guard, token("rsa", key=RSA, algorithm="RS256")).name == "ada"
    assert identify(guard, token("rsa", key=RSA, algorithm="PS256")).name == "ada"
    with pytest.raises(NotAuthenticated, match="is signed with 'RS512'"):
        identify(guard, token("rsa", key=RSA, algorithm="RS512"))


@pytest.mark.parametrize(
    ("claims", "issuer", "greatest"),
    [
        ({"roles": ["admin"]}, {}, "admin"),
        ({"roles": "read write"}, {}, "write"),
        ({"roles": ["boss", 7, None]}, {}, ""),
        ({"roles": None}, {}, ""),
        ({"roles": ["admin"]}, {"roles": {"ml": (READ,)}}, ""),
        ({"roles": ["ml"]}, {"roles": {"ml": (READ,)}}, "read"),
        ({"roles": None}, {"default_roles": (READ,)}, "read"),
        ({"realm": {"groups": ["write"]}}, {"roles_claim": "realm.groups"}, "write"),
        ({"https://x.example/roles": ["write"]}, {"roles_claim": "https://x.example/roles"}, "write"),
        ({"realm": "write"}, {"roles_claim": "realm.groups"}, ""),
    ],
)
def test_claims_become_roles(claims: dict[str, Any], issuer: dict[str, Any], greatest: str) -> None:
    principal = identify(guard_of(Place("one"), **issuer), token(**claims))

    assert [action for action in ACTIONS if principal.may(action)] == list(
        ACTIONS[: ACTIONS.index(greatest) + 1 if greatest else 0]
    )


def test_a_new_key_of_the_issuer_is_found_by_asking_again() -> None:
    place = Place("one")
    guard = guard_of(place)
    identify(guard, token("one"))

    place.answer = jwks("two")
    place.now += WAIT_S
    assert identify(guard, token("two")).name == "ada"
    assert place.asked == 2


def test_unknown_keys_do_not_make_a_server_ask_more_often() -> None:
    place = Place("one")
    guard = guard_of(place)
    for i in range(20):
        with pytest.raises(NotAuthenticated):
            identify(guard, token(f"k{i}", key=FOREIGN))

    assert place.asked == 1


def test_a_token_that_was_checked_goes_on_while_its_issuer_is_down() -> None:
    place = Place("one")
    guard = guard_of(place)
    one = token(exp=int(time.time()) + 10_000)
    identify(guard, one)

    place.answer = OSError("no route to host")
    for _ in range(5):
        place.now += MAX_AGE_S + 1
        assert identify(guard, one).name == "ada"
        assert identify(guard, token(exp=int(time.time()) + 10_000, jti=str(place.now))).name == "ada"


def test_keys_are_not_believed_for_ever() -> None:
    place = Place("one")
    guard = guard_of(place)
    identify(guard, token())
    place.answer = OSError("no route to host")
    place.now += KEEP_S + 1

    with pytest.raises(Overloaded, match=f"keys of issuer {ISSUER} cannot be read .OSError: no route to host"):
        identify(guard, token(jti="another"))


@pytest.mark.parametrize(
    "answer",
    [
        OSError("refused"),
        ValueError("too large"),
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b"[" * 100_000,
    ],
)
def test_an_issuer_that_was_never_reached_is_no_bad_token(answer: Any) -> None:
    place = Place("one")
    place.answer = answer
    guard = guard_of(place)

    for _ in range(3):
        with pytest.raises(Overloaded) as raised:
            identify(guard, token())
        assert raised.value.retry_after_s
    assert place.asked == 1


def test_a_key_that_its_issuer_withdrew_is_refused_once_keys_are_old() -> None:
    place = Place("one", "two")
    guard = guard_of(place)
    stolen = token("one", exp=int(time.time()) + 10_000)
    identify(guard, stolen)

    place.answer = jwks("two")
    place.now += MAX_AGE_S + 1
    asyncio.run(asks_beside(guard, token("two")))
    place.now += MAX_AGE_S + 1
    with pytest.raises(NotAuthenticated, match="is signed with a key"):
        identify(guard, stolen)


@pytest.mark.parametrize("answer", [b'{"keys": []}', b'{"keys": [7, {"kty": "oct", "k": "AA"}]}'])
def test_an_issuer_that_withdraws_all_its_keys_closes_as_soon_as_that_is_known(answer: bytes) -> None:
    place = Place("one")
    guard = guard_of(place)
    remembered, other = token("one"), token("one", jti="another")
    identify(guard, remembered)

    place.answer = answer
    place.now += MAX_AGE_S + 1
    asyncio.run(asks_beside(guard, remembered))
    for text in (remembered, other):
        with pytest.raises(NotAuthenticated, match="is signed with a key .one. that .* does not have"):
            identify(guard, text)
    # It is asked again, and opens once there are keys again.
    place.answer = jwks("one")
    place.now += WAIT_S
    assert identify(guard, other).name == "ada"


def test_one_withdrawn_key_closes_for_its_remembered_tokens_only() -> None:
    place = Place("one", "two")
    guard = guard_of(place)
    withdrawn, kept = token("one"), token("two")
    identify(guard, withdrawn)
    identify(guard, kept)

    place.answer = jwks("two")
    place.now += MAX_AGE_S + 1
    asyncio.run(asks_beside(guard, kept))
    with pytest.raises(NotAuthenticated):
        identify(guard, withdrawn)
    assert identify(guard, kept).name == "ada"


def test_keys_that_were_long_not_needed_are_fetched_before_they_are_believed() -> None:
    place = Place("one", "two")
    guard = guard_of(place)
    stolen = token("one", exp=int(time.time()) + 10_000)
    identify(guard, stolen)

    place.answer = jwks("two")
    place.now += 2 * MAX_AGE_S + 1
    with pytest.raises(NotAuthenticated, match="is signed with a key"):
        identify(guard, stolen)


ODD_TIMES: tuple[Any, ...] = (
    "1", "9999999999", True, [], {}, [9999999999], 1e300, -1e300, 10**400, -(10**400), 1 << 62, float("inf"), float("nan"),
)  # fmt: skip


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ODD_TIMES, ids=lambda value: f"{value!r:.20}")
def test_a_claim_that_is_no_time_is_a_refused_token(claim: str, value: Any) -> None:
    with pytest.raises(NotAuthenticated):
        identify(guard_of(Place("one")), token(**{claim: value}))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["billing", 7, None, ["asof"]]}, {"aud": {"asof": 1}}, {"aud": 7}, {"aud": []}, {"aud": [["asof"]]},
        {"aud": ""}, {"sub": 7}, {"sub": ["ada"]}, {"sub": {"a": "b"}}, {"sub": ""}, {"iss": 7}, {"iss": {}},
    ],
)  # fmt: skip
def test_odd_claims_are_refused_tokens(claims: dict[str, Any]) -> None:
    text = jwt.PyJWS().encode(
        json.dumps({"iss": ISSUER, "aud": "asof", "sub": "ada", "exp": int(time.time()) + 60, "roles": ["read"]} | claims).encode(),
        KEYS["one"], "ES256", {"kid": "one"},
    )  # fmt: skip
    with pytest.raises(NotAuthenticated):
        identify(guard_of(Place("one")), text)


@pytest.mark.parametrize(
    "roles",
    [[["admin"]], [{"name": "admin"}], {"admin": True}, {"admin": ["admin"]}, 7, True, [[["admin"]]], "Admin", ["admin "],
     ["\\ud800"], ["admin\x00"]],
)  # fmt: skip
def test_roles_that_are_nested_or_nearly_right_give_nothing(roles: Any) -> None:
    assert not identify(guard_of(Place("one")), token(roles=roles)).may("read")


def test_a_role_counts_once_however_often_a_token_names_it() -> None:
    narrow = Role("narrow", "read", {"team": "fraud"})
    guard = guard_of(Place("one"), roles={"n": (narrow,)})
    principal = identify(guard, token(roles=["n"] * 1500))
    looks: list[str] = []

    class Tags(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            looks.append(name)
            return super().get(name, default)

    assert not principal.may("read", [SimpleNamespace(name="visits", tags=Tags(team="growth"))])
    assert looks == ["team"]


ODD_FIELDS: tuple[Any, ...] = (None, 7, 1e300, [], {}, ["a"], "", "!", "AA", "A" * 50_000, "\\ud800")


@pytest.mark.parametrize("field", ["n", "e", "crv", "x", "y", "kty", "alg", "use", "kid", "key_ops"])
def test_whatever_an_issuer_publishes_as_a_key_a_token_is_refused_and_nothing_fails(field: str) -> None:
    ec_key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(FOREIGN.public_key())) | {"kid": "one"}
    rsa_key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key())) | {"kid": "rsa"}
    for value in ODD_FIELDS:
        place = Place()
        place.answer = json.dumps({"keys": [ec_key | {field: value}, rsa_key | {field: value}]}).encode()
        guard = guard_of(place, algorithms=("ES256", "RS256"))

        # Neither key is the one that the token is signed with.
        for text in (token("one"), token("rsa", key=RSA, algorithm="RS256")[:-8] + "AAAAAAAA"):
            with pytest.raises(NotAuthenticated):
                identify(guard, text)


async def asks_beside(guard: Guard, text: str) -> None:
    """A request that is answered at once, while the issuer is asked; then that, too, is waited for."""
    await guard.identify(caller(text))
    await asyncio.gather(*guard._asking.values())


def test_many_requests_wait_for_one_answer() -> None:
    place = Place("one")
    slow = place.read
    place.read = lambda: (time.sleep(0.05), slow())[1]  # type: ignore[method-assign]
    guard = guard_of(place)

    async def many() -> list[Principal]:
        return await asyncio.gather(*(guard.identify(caller(token(jti=str(i)))) for i in range(20)))

    assert {principal.name for principal in asyncio.run(many())} == {"ada"}
    assert place.asked == 1


def test_a_token_that_was_checked_is_remembered_until_it_ends() -> None:
    place = Place("one")
    guard = guard_of(place)
    text = token(exp=int(time.time()) + 100)
    first = identify(guard, text)

    assert guard.authenticate(caller(text)) is first
    place.now += 111
    assert guard.authenticate(caller(text)) is not first or pytest.fail("remembered beyond its end")


def test_without_an_event_loop_the_caller_is_told_that_an_issuer_has_to_be_asked() -> None:
    with pytest.raises(KeysNeeded):
        guard_of(Place("one")).authenticate(caller(token()))


def test_key_sets_hold_no_secrets_and_no_keys_for_other_uses() -> None:
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEYS["one"])) | {"kid": "p"}
    other = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEYS["two"].public_key())) | {"kid": "e", "use": "enc"}
    keys = parse_keys(json.dumps({"keys": [private, other, {"kty": "oct", "k": "AA", "kid": "s"}]}).encode())

    assert list(keys) == ["p"] and "d" not in keys["p"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"issuer": "https://evil.example.com", "jwks_uri": "https://evil.example.com/k"}, "is not of"),
        ({"issuer": ISSUER}, "has no jwks_uri"),
        ({"issuer": ISSUER, "jwks_uri": "http://login.example.com/k"}, "a jwks_uri without https"),
        ([], "is not of"),
    ],
)
def test_a_discovery_document_is_not_believed_blindly(
    monkeypatch: pytest.MonkeyPatch, document: Any, says: str
) -> None:
    monkeypatch.setattr("asof.server.security.key_sets.fetch", lambda address: json.dumps(document).encode())

    with pytest.raises(ValueError, match=says):
        discovered(ISSUER)


# ---- the guard as a whole ----


def guard_with_key(**more: Any) -> tuple[Guard, str]:
    key = new_key()
    auth = Auth(keys=(ApiKey(key.id, key.hash, "ranking", (READ,)),), roles=BUILT_IN, **more)
    return Guard(auth, project="shop"), key.text


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_comes_in_either_header(header: str) -> None:
    guard, text = guard_with_key()

    assert guard.authenticate(caller(text, header=header)).name == "ranking"


def test_a_key_that_is_gone_after_a_reload_is_refused() -> None:
    guard, text = guard_with_key()
    guard.authenticate(caller(text))

    reloaded, _ = guard_with_key()
    with pytest.raises(NotAuthenticated):
        reloaded.authenticate(caller(text))


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ([], "needs authentication"),
        ([(b"authorization", b"Basic YTpi")], "not of the form"),
        ([(b"authorization", b"Bearer")], "not of the form"),
        ([(b"authorization", b"Bearer \xff\xfe")], "malformed"),
        ([(b"x-api-key", b"secret")], "malformed"),
    ],
)
def test_what_is_no_key_is_refused(headers: Any, says: str) -> None:
    guard, _ = guard_with_key()

    with pytest.raises(NotAuthenticated, match=says):
        guard.authenticate(Caller(headers, None, "", "POST", "/push"))


def test_without_a_section_everybody_may_everything() -> None:
    principal = Guard(Auth(), project="shop").authenticate(caller())

    assert principal.may("admin") and principal.name == "anybody"


def certificate(*parts: tuple[str, str], names: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    return {"subject": tuple((part,) for part in parts), "subjectAltName": names}


@pytest.mark.parametrize(
    ("shown", "name"),
    [
        (certificate(("organizationName", "Shop"), ("commonName", "feeder")), "CN=feeder,O=Shop"),
        (certificate(("commonName", "x"), names=(("URI", "spiffe://shop/ranking"),)), "URI=spiffe://shop/ranking"),
    ],
)
def test_a_certificate_is_known_by_its_subject_or_another_name(shown: Any, name: str) -> None:
    names = ("CN=feeder,O=Shop", "URI=spiffe://shop/ranking")
    guard = Guard(Auth(certificates=tuple(Certificate(each, each, (WRITE,)) for each in names)), project="shop")

    assert guard.authenticate(caller(certificate=shown)).name == name


@pytest.mark.parametrize(
    "shown",
    [
        certificate(("commonName", "feeder")),
        certificate(("commonName", "feeder"), ("organizationName", "Shop"), ("organizationalUnitName", "Guests")),
        certificate(("commonName", "CN=feeder,O=Shop")),
        None,
    ],
)
def test_another_certificate_is_refused(shown: Any) -> None:
    guard = Guard(Auth(certificates=(Certificate("CN=feeder,O=Shop", "feeder", (WRITE,)),)), project="shop")

    with pytest.raises(NotAuthenticated):
        guard.authenticate(caller(certificate=shown))


# ---- where a server listens ----

OPEN = Auth()
CLOSED = Auth(keys=(ApiKey("4f2a", hash_of("x"), "ranking", (READ,)),))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_on_the_loopback_address_nobody_has_to_say_who_they_are(host: str) -> None:
    refuse_open(host, OPEN, insecure=False)
    assert cleartext_note(host, CLOSED, is_tls=False) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "shop.example.com", ""])
def test_elsewhere_a_server_without_auth_has_to_be_wanted(host: str) -> None:
    with pytest.raises(ConfigError, match="would let everyone who reaches it"):
        refuse_open(host, OPEN, insecure=False)
    refuse_open(host, OPEN, insecure=True)
    refuse_open(host, CLOSED, insecure=False)
    assert "without TLS" in cleartext_note(host, CLOSED, is_tls=False)
    assert cleartext_note(host, CLOSED, is_tls=True) == ""


@pytest.mark.parametrize(
    ("origin", "allowed", "foreign"),
    [
        ("https://evil.example.com", (), True),
        ("null", (), True),
        ("http://localhost:3000", (), False),
        ("http://[::1]:3000", (), False),
        ("http://localhost.evil.example.com", (), True),
        ("https://pages.example.com", ("https://pages.example.com",), False),
        ("https://pages.example.com:8443", ("https://pages.example.com",), True),
        ("https://anything.example.com", ("*",), False),
        ("http://[broken", (), True),
    ],
)
def test_pages_of_a_browser_are_let_in_only_by_name(origin: str, allowed: tuple[str, ...], foreign: bool) -> None:
    assert is_foreign_page(origin, Auth(origins=allowed)) == foreign


def test_a_page_of_the_server_itself_is_no_foreign_one_where_callers_say_who_they_are() -> None:
    assert not is_foreign_page("https://asof.example.com", CLOSED, host="asof.example.com")
    assert is_foreign_page("https://asof.example.com", OPEN, host="asof.example.com")


@pytest.mark.parametrize("auth", [OPEN, CLOSED])
def test_what_a_foreign_page_sends_is_refused_whatever_it_knows(auth: Auth) -> None:
    sent = Caller([(b"origin", b"https://evil.example.com")], None, "127.0.0.1", "POST", "/push")

    with pytest.raises(NotAllowed, match="'https://evil.example.com' may not call this server"):
        Guard(auth, project="shop").authenticate(sent)


def test_a_public_path_needs_no_key() -> None:
    guard, _ = guard_with_key(public=("/metrics",))

    assert guard.authenticate(Caller([], None, "", "GET", "/metrics")).name == "anybody"


# ---- the audit log ----


def test_a_line_says_who_what_when_and_how_it_ended_and_hides_secrets(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "audit.jsonl"
    log = AuditLog(str(path), clock=lambda: NOW)
    log.write(who="ranking", action="write", status=200, token="hunter2", view="x" * 1000, nothing=None, rows=0)
    log.write(who="eve\n{}", status=403)
    log.close()

    first, second = [json.loads(line) for line in path.read_text().splitlines()]
    assert first == {
        "time": "2026-01-01T12:00:00Z", "who": "ranking", "action": "write", "status": 200, "token": "***",
        "view": "x" * 297 + "...", "rows": 0,
    }  # fmt: skip
    assert second["who"] == "eve\n{}"
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_a_rotation_moved_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path), clock=lambda: NOW)
    log.write(who="a")
    path.rename(tmp_path / "audit.1")
    log.write(who="b")

    assert json.loads(path.read_text())["who"] == "b"


def test_where_the_file_cannot_be_written_the_line_goes_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(str(tmp_path / "audit.jsonl"), clock=lambda: NOW)

    def full(*_: Any) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("asof.server.security.audit.os.write", full)
    log.write(who="ranking")

    assert "No space left" in (said := capsys.readouterr().err) and '"who":"ranking"' in said


def test_a_place_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"auth.audit: .* cannot be written"):
        AuditLog(str(tmp_path / "file" / "audit.jsonl"), clock=lambda: NOW)


def test_off_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    AuditLog("off", clock=lambda: NOW).write(who="a")

    assert capsys.readouterr() == ("", "")


# ---- what the doctor says ----


def config_of(auth: Auth, **server: Any) -> Any:
    return SimpleNamespace(auth=auth, server=server)


def said_by_doctor(config: Any) -> list[tuple[str, bool, str]]:
    return [(check.part, check.ok, check.text) for check in security_checks(config, now=NOW)]


def test_where_nothing_is_set_the_doctor_has_nothing_to_say() -> None:
    assert said_by_doctor(config_of(Auth())) == []


def test_the_doctor_names_keys_that_expired_or_end_soon() -> None:
    keys = [
        ApiKey(str(i), hash_of("x"), f"k{i}", (READ,), expires) for i, expires in enumerate((None, NOW + 3 * DAY, NOW))
    ]

    assert said_by_doctor(config_of(Auth(keys=tuple(keys[:1])))) == [("server keys", True, "1 key")]
    assert said_by_doctor(config_of(Auth(keys=tuple(keys)))) == [
        ("server keys", False, "3 keys; next to expire: 'k1', at 2026-01-04T12:00:00Z; expired: 'k2'")
    ]


def test_the_doctor_asks_issuers_for_their_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    auth = Auth(issuers=(Issuer(ISSUER, ("asof",), str(path)),))

    assert "cannot be read (FileNotFoundError" in said_by_doctor(config_of(auth))[0][2]
    path.write_bytes(jwks("one", "two"))
    assert said_by_doctor(config_of(auth)) == [(f"issuer {ISSUER}", True, "keys 'one', 'two'")]


def test_the_doctor_says_when_a_certificate_ends(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("asof.example.com", not_after=datetime(2026, 1, 10, tzinfo=UTC))
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    paths = {"tls_cert": str(tmp_path / "cert.pem"), "tls_key": str(tmp_path / "key.pem")}

    ((part, ok, text),) = said_by_doctor(config_of(Auth(), **paths))
    assert (part, ok) == ("server TLS", False) and text.endswith("is valid until 2026-01-10T00:00:00Z, 8 days from now")
    paths["tls_key"] = str(tmp_path / "gone.pem")
    ((_, ok, text),) = said_by_doctor(config_of(Auth(), **paths))
    assert not ok and "gone.pem cannot be read" in text


def test_the_doctor_sees_a_server_that_would_refuse_to_start() -> None:
    ((part, ok, text),) = said_by_doctor(config_of(OPEN, host="0.0.0.0"))

    assert (part, ok) == ("server", False) and "would let everyone" in text


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:6566", "127.0.0.1:80", "[::1]:6566", "127.8.9.1", "", "hub.example", "hub.example:99"],
)
def test_a_server_of_this_machine_is_asked_by_its_own_names(host: str) -> None:
    refuse_foreign_host([(b"host", host.encode())], ["hub.example"])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:6566",
        "localhost.evil.example",
        "10.0.0.1",
        "[::2]:80",
        "[",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
    ],
)
def test_a_page_whose_name_leads_here_is_refused(host: str) -> None:
    with pytest.raises(NotAllowed, match="for programs of its own machine") as refused:
        refuse_foreign_host([(b"accept", b"*/*"), (b"host", host.encode())], ["hub.example"])
    assert "server.allowed_hosts" in refused.value.hint
