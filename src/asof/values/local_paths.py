"""Local paths, as text or as `file://` URLs; other URLs are refused."""

from __future__ import annotations

import re
from urllib.parse import unquote

# One slash is enough: `Path` leaves one of two. Several schemes, as in `jdbc:postgresql://`, are a URL as well.
_URL = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*(?::[A-Za-z][A-Za-z0-9+.-]*)*):/")
_FILE = re.compile(r"\s*file:(?://(?P<host>[^/]*)(?P<below>/.*)|(?P<path>/(?!/).*))", re.IGNORECASE | re.DOTALL)


OBJECT_SCHEMES = ("s3", "gs", "az")
"""The schemes of addresses in object storage."""


def is_object_address(text: str) -> bool:
    """Whether it is an address in object storage, such as `s3://bucket/prefix`."""
    return scheme_of(text) in OBJECT_SCHEMES and "://" in text


class NotAnAddress(ValueError):
    """An address in object storage that is malformed. The message leaves it out: it may contain a password."""


def checked_object_address(text: str) -> str:
    """The address, without a slash at its end.

    Raises:
        NotAnAddress: it names no bucket, or has credentials or parameters in it.
    """
    bucket, _, prefix = text.partition("://")[2].partition("/")
    if not bucket.strip():
        raise NotAnAddress("an address without a bucket")
    if "@" in bucket or "?" in prefix or "#" in prefix:
        raise NotAnAddress("an address with credentials or parameters in it")
    return text.strip().rstrip("/")


class NotLocal(ValueError):
    """A URL where a path was expected. The message leaves out the URL, which may contain a password."""


def scheme_of(text: str) -> str:
    """The scheme of a URL in lower case; empty for a path. A path that looks like one is written `./s3:/x`."""
    found = _URL.match(text)
    return found.group(1).lower() if found else ""


def local_path(text: str) -> str:
    """The path: the text itself, or the path of a `file://` URL.

    Raises:
        NotLocal: it is another URL, or a file URL of another machine.
    """
    scheme = scheme_of(text)
    if not scheme:
        return text
    found = _FILE.fullmatch(text)
    if scheme != "file":
        raise NotLocal(f"a URL ({scheme}://) where a local path is expected")
    if found is None or (found.group("host") or "").lower() not in ("", "localhost"):
        raise NotLocal("a file:// URL has three slashes before an absolute path; this one names another machine")
    path = unquote(found.group("below") or found.group("path"))
    if "\0" in path:
        raise NotLocal("the file:// URL has a character that no path has (%00)")
    return path


__all__ = [
    "OBJECT_SCHEMES",
    "NotAnAddress",
    "NotLocal",
    "checked_object_address",
    "is_object_address",
    "local_path",
    "scheme_of",
]
