"""Hide secrets: values of options that look like secrets, and passwords in URLs."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|(^|[_-])key($|[_-]id$)|api_?key", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"_(seconds|s|ms|bytes|count|version)$", re.IGNORECASE)
# Up to the last `@`: a password with an unescaped `/` or `@` is hidden whole.
_USER_INFO = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)\S+@")
_INLINE = re.compile(r"\b((?:\w*password|passwd|secret|token|api_?key)\s*=\s*)('[^']*'|[^,;&\s]+)", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether to hide the value of an option with this name."""
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET.search(name)


def masked(value: Any, *, name: str = "") -> Any:
    """The value for display, with secrets as `***` at any depth."""
    if name and is_secret(name) and value not in (None, "") and not isinstance(value, bool):
        return MASK
    if isinstance(value, dict):
        return {key: masked(each, name=str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each) for each in value]
    if isinstance(value, str):
        return _INLINE.sub(rf"\1{MASK}", _USER_INFO.sub(rf"\1{MASK}@", value))
    return value
