"""When to try again, and when to give up: the same decisions for both clients, which do the waiting."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from asof.client.calls import ClientCall
from asof.client.responses import error_of, not_ended
from asof.errors import AsofError, Overloaded, ServerError, ServerTimeout, ServerUnreachable

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
"""A server that wants a longer rest gets it from the caller, who can say what to do meanwhile."""

FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 2.0
"""How often to look whether a job has ended: often at first, then seldom."""

AGAIN = (429, 502, 503, 504)
"""What may be better in a moment."""


@dataclass(frozen=True)
class Retries:
    """How often a call is repeated.

    Args:
        most: at most so many times after the first.
        url, timeout_s: for messages.
    """

    most: int
    url: str
    timeout_s: float

    def after_failure(self, call: ClientCall, failure: httpx.HTTPError, *, tried: int) -> float:
        """How long to wait before sending it again, after no response came.

        Raises:
            ServerError: it is not sent again.
        """
        wait = self._wait_after_failure(call, failure, tried=tried)
        if wait is None:
            raise failure_of(call, failure, self.url, timeout_s=self.timeout_s) from failure
        return wait

    def after_response(self, call: ClientCall, response: httpx.Response, *, tried: int) -> float | None:
        """How long to wait before sending it again; None: it was done.

        Raises:
            AsofError: it was not done, and is not sent again.
        """
        status = response.status_code
        if status < 300:
            return None
        error = error_of(status, response.content, what=call.what, retry_after=response.headers.get("retry-after"))
        wait = self._wait_after_error(call, status, error, tried=tried)
        if wait is None:
            raise error
        return wait

    def _wait_after_failure(self, call: ClientCall, failure: httpx.HTTPError, *, tried: int) -> float | None:
        if tried > self.most or isinstance(failure, httpx.UnsupportedProtocol):
            return None
        if isinstance(failure, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            # It was never sent; a certificate that does not fit fits no better a moment later.
            return None if is_about_tls(failure) else self._wait(tried)
        # A timeout has used up the caller's time, and a server that is too slow gets no faster by being asked twice.
        if isinstance(failure, httpx.TimeoutException) or not call.repeatable:
            return None
        return self._wait(tried)

    def _wait_after_error(self, call: ClientCall, status: int, error: AsofError, *, tried: int) -> float | None:
        if status not in AGAIN or tried > self.most:
            return None
        # Only of these it is said that nothing was done.
        nothing_done = isinstance(error, Overloaded) and status in (429, 503)
        if not call.repeatable and not nothing_done:
            return None
        asked = getattr(error, "retry_after_s", None)
        if asked is not None and asked > LONGEST_WAIT_S:
            return None
        return max(asked or 0.0, self._wait(tried))

    def _wait(self, tried: int) -> float:
        # Spread, so that those who were turned away together do not come back together.
        return min(FIRST_WAIT_S * 2 ** (tried - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


@dataclass
class JobWait:
    """How often to look whether a job has ended, and for how long.

    Args:
        most_s: at most so long; None: for ever.
    """

    most_s: float | None
    _pause_s: float = FIRST_LOOK_S / 2
    _began: float = field(default_factory=time.monotonic)

    def pause(self, job: Mapping[str, Any]) -> float:
        """How long to wait before the next look.

        Raises:
            ServerTimeout: no longer.
        """
        if self.most_s is not None and time.monotonic() - self._began > self.most_s:
            raise not_ended(job, self.most_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_LOOK_S)
        return self._pause_s


def failure_of(call: ClientCall, failure: httpx.HTTPError, url: str, *, timeout_s: float) -> ServerError:
    """A failure without an answer, in words."""
    what = call.what or f"{call.method} {call.path}"
    unknown = "" if call.repeatable or isinstance(failure, httpx.ConnectTimeout | httpx.PoolTimeout) else (
        "; whether it was done is not known"
    )  # fmt: skip
    if isinstance(failure, httpx.ConnectTimeout):
        return ServerUnreachable(
            f"no connection to {url} within the time allowed", hint="check the address, and that it is not blocked"
        )
    if isinstance(failure, httpx.PoolTimeout):
        return ServerTimeout(
            f"{what}: all connections to {url} are in use", hint="raise pool_size, or ask less at once"
        )
    if isinstance(failure, httpx.TimeoutException):
        return ServerTimeout(
            f"{what}: no answer from {url} within {timeout_s:g} s{unknown}",
            hint="raise timeout_s, or look at the server's load",
        )
    reason = str(failure) or type(failure).__name__
    if is_about_tls(failure):
        return ServerUnreachable(f"no trusted connection to {url}: {_tls_reason(reason)}", hint=_tls_hint(reason))
    if isinstance(failure, httpx.ConnectError):
        return ServerUnreachable(
            f"no connection to {url}: {_plainly(reason)}", hint="check the address, and that the server runs"
        )
    if isinstance(failure, httpx.UnsupportedProtocol):
        return ServerUnreachable(f"{url} is no http address", hint="begin it with https:// or http://")
    hint = "" if call.repeatable else "look whether it was done; pushes with a batch_id can be sent again safely"
    if url.startswith("https://") and not hint:
        # With TLS 1.3 the refusal comes after the client believes that all is well, and is often not seen.
        hint = "if it wants client certificates, give client_cert="
    return ServerUnreachable(f"{what}: the connection to {url} broke ({_plainly(reason)}){unknown}", hint=hint)


def is_about_tls(failure: BaseException) -> bool:
    """Whether the two sides did not agree on TLS."""
    text = str(failure).upper()
    return any(word in text for word in ("SSL", "CERTIFICATE", "TLSV1", "WRONG_VERSION"))


def _tls_reason(reason: str) -> str:
    lowered = reason.lower()
    if "wrong version number" in lowered or "record layer failure" in lowered or "wrong_version" in lowered:
        return "the server does not speak TLS there"
    if "self-signed" in lowered or "unable to get local issuer" in lowered:
        return "its certificate is signed by nobody who is trusted here"
    if "hostname mismatch" in lowered or "not valid for" in lowered:
        return "its certificate is for another name"
    if "has expired" in lowered:
        return "its certificate has expired"
    if "certificate required" in lowered:
        return "the server wants a client certificate"
    return _plainly(reason)


def _tls_hint(reason: str) -> str:
    lowered = reason.lower()
    if "wrong version number" in lowered or "record layer failure" in lowered:
        return "use http://, or the port that speaks TLS"
    if "certificate required" in lowered:
        return "give client_cert=(certificate, key)"
    if "self-signed" in lowered or "unable to get local issuer" in lowered:
        return "give ca= the file of the authority that signed it"
    return "check the url and the server's certificate"


def _plainly(reason: str) -> str:
    """`[Errno 111] Connection refused` as `connection refused`."""
    text = reason.rpartition("] ")[2].strip() or reason
    return text[:1].lower() + text[1:]
