"""The addresses of pages.

A name is one segment of a path, quoted whole: also its slashes, and its dots, so that `.json` at the end of an address
is never part of a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode

ROOT = "/ui"
STATIC = f"{ROOT}/static"
JSON = ".json"
"""The end of the address of a page's JSON."""


def page_url(*segments: str, query: Mapping[str, object] | None = None) -> str:
    """The address of a page: its kind, then the names of what it shows.

    Args:
        query: parameters; those that are None or empty are left out.
    """
    path = "/".join([ROOT, *map(_segment, segments)]) if segments else f"{ROOT}/"
    said = {name: value for name, value in (query or {}).items() if value not in (None, "")}
    return f"{path}?{urlencode(said)}" if said else path


def url_of(kind: str, name: str) -> str:
    """The address of an applied object's page, by its kind as catalog entries say it."""
    if kind == "feature":
        view, _, feature = name.partition(":")
        return page_url("feature", view, feature)
    return page_url(kind, name)


def segments_of(path: str) -> tuple[tuple[str, ...], bool]:
    """The segments of a page's raw path below `/ui`, unquoted; and whether its JSON is asked for."""
    rest = path.removeprefix(ROOT).strip("/")
    is_json = rest.endswith(JSON)
    rest = rest.removesuffix(JSON)
    return tuple(unquote(each) for each in rest.split("/") if each), is_json


def _segment(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")
