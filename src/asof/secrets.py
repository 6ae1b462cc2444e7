"""What a secret looks like: by the name of its option, in a URL, in a `key=value` text, and as a private key.

One set of rules decides what is hidden wherever a value is shown, and what a definition may not contain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|passcode|secret|token|credential|jaas|(api|private|access)[._-]?key"
    r"|(?<!com)(?<!by)pass$|pwd|(^|[._-])(psk|pw)$",
    re.IGNORECASE,
)
_KEY = re.compile(r"(^|[._-])key($|[._-](id|pem)$)", re.IGNORECASE)
_NOT_SECRET = re.compile(r"[._-](seconds|s|ms|bytes|count|version|location|file|url|algorithm)$", re.IGNORECASE)

# Up to the last `@`: a password with an unescaped `/` or `@` is hidden whole. One with spaces is known by the colon
# before it, where that does not begin a port.
_USER_INFO = re.compile(
    r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://"
    r"(?P<info>[^\s@/:]*:(?!\d{1,5}(?:[/\s,;)]|$))[^@\n]*(?:@[^\s@]*)*|\S+)@"
)
_PAIR = re.compile(r"(?P<name>[\w.-]{1,80})(?:['\"]?\s*=\s*|['\"]\s*:\s*)")
# A value without quotes ends where the next `name=` begins: it may have spaces and commas.
_VALUE = re.compile(
    r"'(?:\\.|''|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^\n&;]+?(?=[\s,]+[\w.-]+\s*=|[&;\n]|\Z)", re.DOTALL
)  # fmt: skip
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL
)
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")


def is_secret(name: str) -> bool:
    """Whether to hide the value of an option with this name."""
    return bool(_SECRET_NAME.search(name) or _KEY.search(name)) and not _NOT_SECRET.search(name)


def masked(value: Any, *, name: str = "") -> Any:
    """The value for display, with secrets as `***` at any depth."""
    if name and is_secret(name) and value not in (None, "") and not isinstance(value, bool):
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(each, name=str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if not isinstance(value, str):
        return value
    shown, end = [], 0
    for start, stop in _spans(value):
        if stop > end:
            shown += [value[end:start], MASK] if start >= end else []
            end = stop
    return "".join([*shown, value[end:]])


def literal_secret(fields: Mapping[str, object]) -> str:
    """Name of the first field with a secret in plain text instead of `${VAR}`, else the empty string."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            inner = literal_secret(value)
            if inner:
                return f"{name}[{inner!r}]"
        elif isinstance(value, list | tuple):
            if any(literal_secret({name: each}) for each in value):
                return name
        elif value not in (None, "") and not isinstance(value, bool):
            text = str(value)
            if (is_secret(name) and not _is_variable(text)) or has_secret(text):
                return name
    return ""


def has_secret(text: str) -> bool:
    """Whether a text contains a password or a private key that is not a `${VAR}`."""
    for start, stop in _spans(text):
        found = text[start:stop]
        if text[stop : stop + 1] == "@" and text[:start].endswith("://"):
            _, has_password, found = found.partition(":")
            if not has_password:
                continue
        if found.strip("'\" ") and not _is_variable(found.strip("'\" ")):
            return True
    return False


def without_values(text: str, settings: Mapping[str, object]) -> str:
    """A library's message about these settings, with the secret ones' values as `***`."""
    for name, value in settings.items():
        if is_secret(name) and len(str(value)) > 2:
            text = text.replace(str(value), MASK)
    return str(masked(text))


def _spans(text: str) -> list[tuple[int, int]]:
    """Where secrets begin and end, by their beginning; they may overlap."""
    found = [each.span("info") for each in _USER_INFO.finditer(text)]
    found += [each.span() for each in _PRIVATE_KEY.finditer(text)]
    return sorted([*found, *_inline(text)], key=lambda span: (span[0], -span[1]))


def _inline(text: str) -> Iterator[tuple[int, int]]:
    for pair in _PAIR.finditer(text):
        # A mere `key=` is no secret in a text, where it may be a column or an object's key.
        if _SECRET_NAME.search(pair["name"]) and not _NOT_SECRET.search(pair["name"]):
            value = _VALUE.match(text, pair.end())
            if value is not None:
                yield value.span()


def _is_variable(text: str) -> bool:
    # `${VAR:-default}` does not count: the default would be the secret itself.
    return _VARIABLE.fullmatch(text.strip()) is not None


__all__ = ["MASK", "has_secret", "is_secret", "literal_secret", "masked", "without_values"]
