"""Find secrets that a definition contains in plain text."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|credential|api_?key|sasl\.jaas", re.IGNORECASE)
_IN_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/@\s]*?:(?P<password>[^\s]*)@")
_INLINE = re.compile(r"\b\w*(?:password|passwd|secret|token)\s*=\s*(?P<password>'[^']*'|[^,;&\s]+)", re.IGNORECASE)


def literal_secret(fields: Mapping[str, object]) -> str:
    """Name of the first field with a secret in plain text instead of `${VAR}`, else the empty string."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            inner = literal_secret(value)
            if inner:
                return f"{name}[{inner!r}]"
        elif isinstance(value, str) and value:
            if _SECRET.search(name) and not _is_variable(value):
                return name
            for pattern in (_IN_URL, _INLINE):
                found = pattern.search(value)
                if found and found["password"] and not _is_variable(found["password"]):
                    return name
    return ""


def _is_variable(text: str) -> bool:
    # `${VAR:-default}` does not count: the default would be the secret itself.
    return re.fullmatch(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", text.strip()) is not None


__all__ = ["literal_secret"]
