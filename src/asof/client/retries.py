"""Decides about retries, for both clients; the clients do the waiting."""

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
"""Longest `Retry-After` that the client waits for; with a longer one, the error is raised to the caller."""

FIRST_LOOK_S = 0.1
LONGEST_LOOK_S = 2.0
"""Intervals of polling a job: short at first, then longer."""

AGAIN = (429, 502, 503, 504)
"""Statuses of temporary errors."""


@dataclass(frozen=True)
class Retries:
    """The retries of a call.

    Args:
        most: number of retries.
        url, timeout_s: for messages.
    """

    most: int
    url: str
    timeout_s: float

    def after_failure(self, call: ClientCall, failure: httpx.HTTPError, *, tried: int) -> float:
        """Seconds to wait before a retry, after a call without a response.

        Raises:
            ServerError: it is not retried.
        """
        wait = self._wait_after_failure(call, failure, tried=tried)
        if wait is None:
            raise failure_of(call, failure, self.url, timeout_s=self.timeout_s) from failure
        return wait

    def after_response(self, call: ClientCall, response: httpx.Response, *, tried: int) -> float | None:
        """Seconds to wait before a retry, after an error response; None after a success.

        Raises:
            AsofError: the error, if it is not retried.
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
            # It was never sent. A TLS error is permanent.
            return None if is_about_tls(failure) else self._wait(tried)
        # No retry after a timeout: the caller's time is over, and a retry would only add load to a slow server.
        if isinstance(failure, httpx.TimeoutException) or not call.repeatable:
            return None
        return self._wait(tried)

    def _wait_after_error(self, call: ClientCall, status: int, error: AsofError, *, tried: int) -> float | None:
        if status not in AGAIN or tried > self.most:
            return None
        # Only these errors guarantee that nothing was done.
        nothing_done = isinstance(error, Overloaded) and status in (429, 503)
        if not call.repeatable and not nothing_done:
            return None
        retry_after_s = getattr(error, "retry_after_s", None)
        if retry_after_s is not None and retry_after_s > LONGEST_WAIT_S:
            return None
        return max(retry_after_s or 0.0, self._wait(tried))

    def _wait(self, tried: int) -> float:
        # Random, so that clients that were refused together do not return together.
        return min(FIRST_WAIT_S * 2 ** (tried - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)


@dataclass
class JobWait:
    """Polling of a job: intervals and time limit.

    Args:
        most_s: time limit; None for none.
    """

    most_s: float | None
    _pause_s: float = FIRST_LOOK_S / 2
    _began: float = field(default_factory=time.monotonic)

    def pause(self, job: Mapping[str, Any]) -> float:
        """Seconds to wait before polling again.

        Raises:
            ServerTimeout: the time limit is reached.
        """
        if self.most_s is not None and time.monotonic() - self._began > self.most_s:
            raise not_ended(job, self.most_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_LOOK_S)
        return self._pause_s


def failure_of(call: ClientCall, failure: httpx.HTTPError, url: str, *, timeout_s: float) -> ServerError:
    """The error for a call without a response."""
    what = call.what or f"{call.method} {call.path}"
    unknown = "" if call.repeatable or isinstance(failure, httpx.ConnectTimeout | httpx.PoolTimeout) else (
        "; it is unknown whether it was done"
    )  # fmt: skip
    if isinstance(failure, httpx.ConnectTimeout):
        return ServerUnreachable(
            f"no connection to {url} within connect_timeout_s", hint="check the url, and that no firewall blocks it"
        )
    if isinstance(failure, httpx.PoolTimeout):
        return ServerTimeout(
            f"{what}: all connections to {url} are in use", hint="raise pool_size, or send fewer requests at once"
        )
    if isinstance(failure, httpx.TimeoutException):
        return ServerTimeout(
            f"{what}: no response from {url} within {timeout_s:g} s{unknown}",
            hint="raise timeout_s, or check the server's load",
        )
    reason = str(failure) or type(failure).__name__
    if is_about_tls(failure):
        return ServerUnreachable(f"no trusted connection to {url}: {_tls_reason(reason)}", hint=_tls_hint(reason))
    if isinstance(failure, httpx.ConnectError):
        return ServerUnreachable(
            f"no connection to {url}: {_plainly(reason)}", hint="check the url, and that the server is running"
        )
    if isinstance(failure, httpx.UnsupportedProtocol):
        return ServerUnreachable(f"url {url} is not an http(s) URL", hint="use https:// or http://")
    hint = "" if call.repeatable else "check whether it was done; pushes with a batch_id are safe to repeat"
    if url.startswith("https://") and not hint:
        # With TLS 1.3 the server's refusal comes after the client's handshake, and is often not visible.
        hint = "if the server requires client certificates, set client_cert="
    return ServerUnreachable(f"{what}: the connection to {url} broke ({_plainly(reason)}){unknown}", hint=hint)


def is_about_tls(failure: BaseException) -> bool:
    """Whether the TLS handshake failed."""
    text = str(failure).upper()
    return any(word in text for word in ("SSL", "CERTIFICATE", "TLSV1", "WRONG_VERSION"))


def _tls_reason(reason: str) -> str:
    lowered = reason.lower()
    if "wrong version number" in lowered or "record layer failure" in lowered or "wrong_version" in lowered:
        return "the server does not use TLS on this port"
    if "self-signed" in lowered or "unable to get local issuer" in lowered:
        return "its certificate is signed by an untrusted CA"
    if "hostname mismatch" in lowered or "not valid for" in lowered:
        return "its certificate is for another host name"
    if "has expired" in lowered:
        return "its certificate has expired"
    if "certificate required" in lowered:
        return "the server requires a client certificate"
    return _plainly(reason)


def _tls_hint(reason: str) -> str:
    lowered = reason.lower()
    if "wrong version number" in lowered or "record layer failure" in lowered:
        return "use http://, or the server's TLS port"
    if "certificate required" in lowered:
        return "set client_cert=(certificate, key)"
    if "self-signed" in lowered or "unable to get local issuer" in lowered:
        return "set ca= to the CA's PEM file"
    return "check the url and the server's certificate"


def _plainly(reason: str) -> str:
    """`[Errno 111] Connection refused` as `connection refused`."""
    text = reason.rpartition("] ")[2].strip() or reason
    return text[:1].lower() + text[1:]
