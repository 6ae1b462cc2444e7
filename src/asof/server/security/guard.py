"""Who is calling: from a request's headers or certificate to a principal, at the cost of microseconds once known."""

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
from asof.server.security.principals import Principal, nobody_in_particular
from asof.timing import SECOND, Clock

if TYPE_CHECKING:
    from asof.server.security.key_sets import KeySet
    from asof.server.security.tokens import TokenVerifier, VerifiedToken

REMEMBERED = 4096
"""How many verified tokens are kept."""

REMEMBERED_S = 300
"""For how long at most, so that a key which its issuer withdraws opens nothing soon."""


class Guard:
    """Knows callers by API key, token or client certificate.

    Args:
        auth: what the configuration says.
        project: whose roles count.
        clock: the system's now; the store's may stand still, and keys expire all the same.
        key_sets: issuer → its keys; made as the configuration says where not given.
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
            # Loaded only where there are tokens: it brings the cryptography with it.
            from asof.server.security.tokens import TokenVerifier

            self._verifier = TokenVerifier(auth.issuers, roles=auth.roles, key_sets=key_sets)
        self._by_key = {each.id: self._principal(each.name, "key", each.roles) for each in auth.keys}
        self._by_subject = {
            written_subject(each.subject): self._principal(each.name, "certificate", each.roles)
            for each in auth.certificates
        }
        self._anybody = nobody_in_particular()
        self._remembered: dict[bytes, tuple[Principal, int]] = {}
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def _principal(self, name: str, how: str, roles: Any) -> Principal:
        return Principal(name, how, roles=roles, project=self._project)

    async def identify(self, caller: Caller) -> Principal:
        """Who sent this request, after asking the issuer of their token where that is needed.

        Raises:
            NotAuthenticated: nobody who is known here.
            Overloaded: it cannot be told now, as an issuer does not answer.
        """
        try:
            return self.authenticate(caller)
        except IdentityLookupNeeded as asking:
            from asof.server.security.tokens import KeysNeeded  # loaded where there are issuers

            assert isinstance(asking, KeysNeeded)
            await self._ask(asking.keys)
            return self._known_by_token(self._credential(caller), asked=True)

    def authenticate(self, caller: Caller) -> Principal:
        """The same without waiting for anybody.

        Raises:
            IdentityLookupNeeded: an issuer has to be asked: `identify` does.
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
            "this server wants to know who is calling",
            hint="send `Authorization: Bearer <key or token>`; asof.Client(url, api_key=…) does",
        )

    def _credential(self, caller: Caller) -> str:
        """The key or token of a request; empty where there is none.

        Raises:
            NotAuthenticated: it comes in a form that is not understood.
            NotAllowed: a browser sends it for a page that was not let in.
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
                        "the Authorization header is not of the form that is accepted here",
                        hint="send `Authorization: Bearer <key or token>`",
                    )
                found = text.strip().decode("latin-1")
            elif name == b"x-api-key":
                found = found or value.strip().decode("latin-1")
            elif name == b"origin":
                if host is None:
                    # Once: a request may have thousands of either header.
                    host = next((value for name, value in caller.headers if name == b"host"), b"").decode("latin-1")
                self._refuse_foreign_page(value.decode("latin-1"), host)
        return found

    def _refuse_foreign_page(self, origin: str, host: str) -> None:
        if is_foreign_page(origin, self._auth, host=host):
            raise NotAllowed(
                f"the web page {origin[:200]!r} may not call this server",
                hint="add its origin to auth.origins, if it should",
            )

    def _known_by_certificate(self, certificate: Any) -> Principal:
        subject = subject_of(certificate)
        for name in (subject, *alternative_names(certificate)):
            principal = self._by_subject.get(name)
            if principal is not None:
                return principal
        shown = ",".join(f"{kind}={value}" for kind, value in sorted(subject))
        raise NotAuthenticated(
            f"the client certificate of {shown[:200]!r} is not accepted here",
            hint="add its subject to auth.certificates",
        )

    def _known_by_token(self, text: str, *, asked: bool = False) -> Principal:
        digest = sha256(text.encode("utf-8", "replace")).digest()
        now = self._clock()
        known = self._remembered.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        if self._verifier is None:
            raise NotAuthenticated("the API key is not well formed", hint="it begins with asof_; copy all of it")
        verified = self._verifier.check(text, asked=asked)
        if verified.keys.is_due:
            self._ask_beside(verified.keys)
        return self._remember(digest, verified, now)

    def _remember(self, digest: bytes, verified: VerifiedToken, now: int) -> Principal:
        principal = self._principal(verified.name, "token", verified.roles)
        while len(self._remembered) >= REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)), None)
        until = min(int(verified.expires * SECOND), now + REMEMBERED_S * SECOND)
        self._remembered[digest] = (principal, until)
        return principal

    # ---- asking issuers, in threads of our own: the server's are for stores ----

    async def _ask(self, keys: KeySet) -> None:
        """Wait until an issuer was asked; many requests wait for one answer."""
        await asyncio.shield(self._asked(keys))

    def _ask_beside(self, keys: KeySet) -> None:
        try:
            self._asked(keys)
        except RuntimeError:
            keys.refresh()  # Not in an event loop.

    def _asked(self, keys: KeySet) -> asyncio.Future[None]:
        running = self._asking.get(keys.name)
        if running is None or running.done():
            loop = asyncio.get_running_loop()
            self._threads = self._threads or ThreadPoolExecutor(2, "asof-issuers")
            running = self._asking[keys.name] = loop.run_in_executor(self._threads, keys.refresh)
        return running

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
