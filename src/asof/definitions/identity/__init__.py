"""The identity of a user's function: its source text, and all else that determines its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asof.definitions.identity.walk import Walk, digest

MODE_PACKAGES = {"pandas": "pandas", "polars": "polars", "arrow": "pyarrow"}
"""What a function of a mode works with, whatever it imports."""


MOST_SHOWN = 4


@dataclass(frozen=True)
class FunctionIdentity:
    """All that determines what a function returns.

    Args:
        parts: label → digest: `function cart_ratio`, `function helpers.scale`, `constant RATE`.
        packages: package → version; a difference is worth a warning, and is none of meaning.
        problems: what cannot be compared, as text.
        read: see `Walk`; used to notice that a global was replaced.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    read: Sequence[tuple[Mapping[str, object], str, object]] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> FunctionIdentity:
        """As `content` said."""
        return cls(dict(content["parts"]), dict(content.get("packages", {})))

    def content(self) -> dict[str, object]:
        content: dict[str, object] = {"parts": dict(sorted(self.parts.items()))}
        return {**content, "packages": dict(sorted(self.packages.items()))} if self.packages else content


def identify(
    function: Callable[..., object], *, name: str, mode: str, version: str = "", root: Path | None = None
) -> FunctionIdentity:
    """Compute the identity of a function.

    Args:
        mode: whose package it works with.
        version: stands in for what cannot be compared.
        root: the repository's folder.
    """
    walk = Walk(root)
    walk.begin(function, name)
    if mode in MODE_PACKAGES:
        walk.use(MODE_PACKAGES[mode])
    problems = tuple(dict.fromkeys(walk.problems))
    if not version:
        return FunctionIdentity(walk.parts, walk.packages, problems, walk.read)
    return FunctionIdentity({**walk.parts, "version": digest(version)}, walk.packages, (), walk.read)


class KnownFunction:
    """A user's function and its identity; decoded from a registry, the identity alone.

    Args:
        function: None if decoded from a registry.
        mode: `python`, `pandas`, `polars`, `arrow`.
        identity: as stored in a registry; None where an earlier Asof stored the source text only.
    """

    def __init__(
        self,
        function: Callable[..., object] | None,
        *,
        name: str,
        source_text: str,
        mode: str,
        version: str = "",
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.function, self.name, self.source_text = function, name, source_text
        self.mode, self.version = mode, version
        self._root: Path | None = None
        self._identity = FunctionIdentity.of(identity) if identity is not None else None

    def settle(self, root: Path) -> FunctionIdentity | None:
        """Compute the identity now, while the modules of the repository at `root` can be imported."""
        self._root = root
        if self.function is not None:
            self._identity = None
        return self.identity

    def look_again(self) -> None:
        """Compute the identity again if a global that it depends on was replaced, as happens in notebooks."""
        if self._identity is not None and any(
            space.get(name, self) is not value for space, name, value in self._identity.read
        ):
            self._identity = None

    @property
    def identity(self) -> FunctionIdentity | None:
        """The identity, computed on first use; None where only the source text is known."""
        if self._identity is None and self.function is not None:
            self._identity = identify(
                self.function, name=self.name, mode=self.mode, version=self.version, root=self._root
            )
        return self._identity

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be compared, as text."""
        return self.identity.problems if self.identity is not None else ()

    @property
    def text_fingerprint(self) -> str:
        """Hash of the source text, which was the whole identity in earlier versions of Asof."""
        return hashlib.sha256(self.source_text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines the result."""
        if self.identity is None:
            return self.text_fingerprint
        return digest(json.dumps(sorted(self.identity.parts.items())))

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Whether this or an earlier Asof would record this fingerprint for the function."""
        return fingerprint in (self.fingerprint, self.text_fingerprint)

    def differences(self, other: KnownFunction) -> list[str]:
        """What differs from the other function, as text; empty if both mean the same.

        An earlier Asof recorded the source text only; then that is compared.
        """
        own, others = self.identity, other.identity
        if own is None or others is None:
            return [] if self.source_text == other.source_text else ["its text"]
        labels = dict.fromkeys((*own.parts, *others.parts))
        return [shown(each) for each in labels if own.parts.get(each) != others.parts.get(each)]

    def package_differences(self, other: KnownFunction) -> list[str]:
        """Packages whose version differs from the one recorded with the other function, as text."""
        own, others = self.identity, other.identity
        if own is None or others is None:
            return []
        return [
            f"{name} is {own.packages.get(name, 'not installed')} here, and was {version} when it was applied"
            for name, version in sorted(others.packages.items())
            if own.packages.get(name) != version
        ]

    def content(self) -> dict[str, object]:
        """What a registry stores in addition to the source text."""
        return {} if self.identity is None else {"identity": self.identity.content()}


def shown(label: str) -> str:
    """A part's label as messages name it: `constant 'RATE'`."""
    kind, space, name = label.partition(" ")
    return f"{kind} {name!r}" if space else label


def what_differs(differences: Sequence[str]) -> str:
    """Differences in one phrase, the first of them by name."""
    shown = ", ".join(differences[:MOST_SHOWN])
    return shown + (f" and {len(differences) - MOST_SHOWN} more" if len(differences) > MOST_SHOWN else "")


__all__ = ["FunctionIdentity", "KnownFunction", "identify", "shown", "what_differs"]
