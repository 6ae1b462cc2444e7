"""Authenticates requests by their headers or certificate; known callers take microseconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from asof.config.auth import Auth
from asof.errors import NotAllowed, NotAuthenticated
from asof.server.security.binding import is_foreign_page
from asof.server.security.callers import Caller, IdentityLookupNeeded
from asof.server.security.certificates import alternative_names, subject_of, written_subject
from asof.server.security.keys import PREFIX, KeyRing
from asof.server.security.principals import Principal, anonymous
from asof.timing import SECOND, Clock

if TYPE_CHECKING:
    from asof.server.security.key_sets import KeySet
    from asof.server.security.tokens import TokenVerifier, VerifiedToken

REMEMBERED = 4096
"""Most verified tokens in the cache."""

REMEMBERED_S = 300
"""Longest time in the cache, so that a token of a revoked key is soon refused."""


class Guard:
    """Authenticates callers by API key, token or client certificate.

    Args:
        auth: the `auth:` section.
        project: roles for other projects are ignored.
        clock: the system's time, not the store's clock: keys expire in real time.
        key_sets: issuer → its keys; by default from the configuration.
    """

    def __init__(
        self,
        auth: Auth,
        *,
        project: str,
        clock: Clock = lambda: time.time_ns() // 1000,
        key_sets: Mapping[str, KeySet] | None = None,
    ) -> None:
        self.is_on = auth.is_on
        self._auth = auth
        self._project = project
        self._clock = clock
        self._ring = KeyRing(auth.keys)
        self._verifier: TokenVerifier | None = None
        if auth.issuers:
            # Imported only for tokens: it imports the cryptography package.
            from asof.server.security.tokens import TokenVerifier

            self._verifier = TokenVerifier(auth.issuers, roles=auth.roles, key_sets=key_sets)
        self._by_key = {each.id: self._principal(each.name, "key", each.roles) for each in auth.keys}
        self._by_subject = {
            written_subject(each.subject): self._principal(each.name, "certificate", each.roles)
            for each in auth.certificates
        }
        self._anybody = anonymous()
        # Hash of a token → its principal, until when it is remembered, and the keys that it was verified with.
        self._remembered: dict[bytes, tuple[Principal, int, KeySet, int]] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def _principal(self, name: str, how: str, roles: Any) -> Principal:
        return Principal(name, how, roles=roles, project=self._project)

    async def identify(self, caller: Caller) -> Principal:
        """Authenticate a request; fetches the issuer's keys if needed.

        Raises:
            NotAuthenticated: no or invalid credentials.
            Overloaded: an issuer is unreachable, so a token cannot be verified.
        """
        try:
            return self.authenticate(caller)
        except IdentityLookupNeeded as asking:
            from asof.server.security.tokens import KeysNeeded  # loaded where there are issuers

            assert isinstance(asking, KeysNeeded)
            await self._ask(asking.keys)
            return self._known_by_token(self._credential(caller), fetched=True)

    def authenticate(self, caller: Caller) -> Principal:
        """The same without waiting.

        Raises:
            IdentityLookupNeeded: an issuer's keys must be fetched: call `identify`.
        """
        text = self._credential(caller)
        if not self.is_on or caller.path in self._auth.public:
            return self._anybody
        if text:
            if text.startswith(PREFIX):
                return self._by_key[self._ring.check(text, self._clock()).id]
            return self._known_by_token(text)
        if self._by_subject and caller.peer_certificate:
            return self._known_by_certificate(caller.peer_certificate)
        raise NotAuthenticated(
            "this server needs authentication, and the request has no credentials",
            hint="send `Authorization: Bearer <key or token>`; asof.Client(url, api_key=…) does",
        )

    def _credential(self, caller: Caller) -> str:
        """The key or token of a request, or "".

        Raises:
            NotAuthenticated: the Authorization header is malformed.
            NotAllowed: a browser sends it for a page whose origin is not allowed.
        """
        found = ""
        host: str | None = None
        for name, value in caller.headers:
            if name == b"authorization":
                kind, _, text = value.partition(b" ")
                if kind.lower() != b"bearer" or not text:
                    if not self.is_on:
                        continue
                    raise NotAuthenticated(
                        "the Authorization header is not of the form `Bearer <key or token>`",
                        hint="send `Authorization: Bearer <key or token>`",
                    )
                found = _once(found, text)
            elif name == b"x-api-key":
                found = _once(found, value)
            elif name == b"origin":
                if host is None:
                    # Once: a request may repeat either header thousands of times.
                    host = next((value for name, value in caller.headers if name == b"host"), b"").decode("latin-1")
                self._refuse_foreign_page(value.decode("latin-1"), host)
        return found

    def _refuse_foreign_page(self, origin: str, host: str) -> None:
        if is_foreign_page(origin, self._auth, host=host):
            raise NotAllowed(
                f"web page {origin[:200]!r} may not call this server",
                hint="add its origin to auth.origins",
            )

    def _known_by_certificate(self, certificate: Any) -> Principal:
        subject = subject_of(certificate)
        for name in (subject, *alternative_names(certificate)):
            principal = self._by_subject.get(name)
            if principal is not None:
                return principal
        shown = ",".join(f"{kind}={value}" for kind, value in sorted(subject))
        raise NotAuthenticated(
            f"client certificate {shown[:200]!r} is not in auth.certificates",
            hint="add its subject to auth.certificates",
        )

    def _known_by_token(self, text: str, *, fetched: bool = False) -> Principal:
        digest = sha256(text.encode("utf-8", "replace")).digest()
        now = self._clock()
        known = self._remembered.get(digest)
        if known is not None:
            principal, until, keys, edition = known
            if now < until and edition == keys.edition:
                if keys.is_due:
                    self._fetch_in_background(keys)
                return principal
            del self._remembered[digest]
        if self._verifier is None:
            raise NotAuthenticated("the API key is malformed", hint="copy all of it, including asof_")
        verified = self._verifier.check(text, fetched=fetched)
        if verified.keys.is_due:
            self._fetch_in_background(verified.keys)
        return self._remember(digest, verified, now)

    def _remember(self, digest: bytes, verified: VerifiedToken, now: int) -> Principal:
        principal = self._principal(verified.name, "token", verified.roles)
        while len(self._remembered) >= REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)), None)
        until = min(int(verified.expires * SECOND), now + REMEMBERED_S * SECOND)
        self._remembered[digest] = (principal, until, verified.keys, verified.edition)
        return principal

    # ---- fetching issuers' keys, in separate threads: the server's threads are for stores ----

    async def _ask(self, keys: KeySet) -> None:
        """Wait until an issuer's keys are fetched; concurrent requests share one fetch."""
        await asyncio.shield(self._fetched(keys))

    def _fetch_in_background(self, keys: KeySet) -> None:
        try:
            self._fetched(keys)
        except RuntimeError:
            keys.refresh()  # Without an event loop.

    def _fetched(self, keys: KeySet) -> asyncio.Future[None]:
        running = self._asking.get(keys.name)
        loop = asyncio.get_running_loop()
        if running is None or running.done() or running.get_loop() is not loop:
            self._threads = self._threads or ThreadPoolExecutor(2, "asof-issuers")
            running = self._asking[keys.name] = loop.run_in_executor(self._threads, keys.refresh)
        return running

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _once(found: str, value: bytes) -> str:
    """A credential of a request that has none before it, or the same one."""
    text = value.strip().decode("latin-1")
    if found and found != text:
        raise NotAuthenticated("the request has two keys or tokens", hint="send one of them")
    return text
