"""The cookies of the pages: a browser's key, which becomes the header that every caller sends, and what a form did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, unquote, urlsplit

from asof.catalog.urls import ROOT, page_url

COOKIE, NOTICE = "asof_key", "asof_notice"

_NOTICE_S = 15

Headers = Sequence[tuple[bytes, bytes]]


def with_key_of_cookie(headers: Headers) -> Headers:
    """The headers with the cookie's key as Authorization header; as they are where they have one, or no cookie."""
    cookie = b"; ".join(value for name, value in headers if name == b"cookie")
    if COOKIE.encode() not in cookie or any(name in (b"authorization", b"x-api-key") for name, _ in headers):
        return headers
    key = _value_of(cookie, COOKIE)
    return [*headers, (b"authorization", b"Bearer " + unquote(key).encode("latin-1", "replace"))] if key else headers


def notice_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What the form that led here did, as its response said it; empty if none did."""
    cookie = b"; ".join(value for name, value in headers if name == b"cookie")
    return _value_of(cookie, NOTICE) if NOTICE.encode() in cookie else ""


def notice_cookie(notice: str, *, to: str, is_tls: bool) -> tuple[bytes, bytes]:
    """The header that keeps a notice for the page at `to`, for a moment: long enough to load itself again."""
    secure = "; Secure" if is_tls else ""
    value = f"{NOTICE}={notice}; Path={to}; Max-Age={_NOTICE_S}; HttpOnly; SameSite=Strict{secure}"
    return (b"set-cookie", value.encode("ascii"))


def _value_of(cookie: bytes, name: str) -> str:
    try:
        found = SimpleCookie(cookie.decode("latin-1")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def cookie_of(key: str, *, is_tls: bool) -> tuple[bytes, bytes]:
    """The header that keeps a key in the browser until it is closed; an empty key removes it."""
    secure = "; Secure" if is_tls else ""
    gone = "; Max-Age=0" if not key else ""
    value = f"{COOKIE}={quote(key, safe='')}; Path={ROOT}; HttpOnly; SameSite=Strict{secure}{gone}"
    return (b"set-cookie", value.encode("ascii"))


def own_address(to: str) -> str:
    """An address of a page to go to; the home page where it is none, so that no link leads elsewhere."""
    parts = urlsplit(to)
    if parts.scheme or parts.netloc or not parts.path.startswith(f"{ROOT}/") or "\\" in to or not to.isprintable():
        return page_url()
    return to


def is_own_form(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a form was sent by one of this server's pages, or by a program that is no browser.

    Cookies alone do not say it: pages on other ports of the same host are the same site.
    """
    found = dict(headers)
    site = found.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = found.get(b"origin")
    return origin is None or urlsplit(origin.decode("latin-1")).netloc == found.get(b"host", b"").decode("latin-1")
