"""Where a registry's objects are, below its address; and a version as an object.

    versions/PROJECT/000000000012.json     a version: who, when, what it changed, its facts, the hash of its definitions
    definitions/PROJECT/HASH.json          definitions, shared by all versions that have the same
    records/PROJECT/KINDS/WHEN-….json      what happened: one object per append
    counts/PROJECT/KIND/2026-12-01.json    counts of a day

So a change of facts writes no definitions, and no object of a version is ever written twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asof.definitions.project import Snapshot
from asof.registry.protocol import Commit, UnreadableVersion, checksum, decode

FORMAT = 1
"""Format of a version's object; newer ones are refused."""

_DIGITS = 12
_ESCAPED = re.compile(r"=([0-9A-F]{2})")


@dataclass(frozen=True)
class StoredVersion:
    """What the object of a version has.

    Args:
        token: differs for each attempt to write one, so that a writer knows its own.
        definitions: the hash of its definitions.
        rest: the snapshot without its definitions.
    """

    commit: Commit
    token: str
    facts_only: bool
    definitions: str
    rest: Mapping[str, Any]

    def encode(self) -> bytes:
        """The object's bytes: a checksum, and JSON."""
        own = self.commit
        text = json.dumps(
            {
                "format": FORMAT, "version": own.version, "who": own.who, "when": own.when, "note": own.note,
                "summary": own.summary, "token": self.token, "facts_only": self.facts_only,
                "definitions": self.definitions, "snapshot": dict(self.rest),
            }
        )  # fmt: skip
        return f"{checksum(text)}\n{text}".encode()

    @classmethod
    def decode(cls, data: bytes) -> StoredVersion:
        """The version of an object.

        Raises:
            UnreadableVersion: it is damaged, or of a newer format.
        """
        kept, _, text = data.partition(b"\n")
        if checksum(text).encode() != kept:
            raise UnreadableVersion("its checksum does not match its content")
        content = json.loads(text)
        if content["format"] > FORMAT:
            raise UnreadableVersion(f"its format is {content['format']}; this Asof reads up to {FORMAT}", newer=True)
        commit = Commit(*(content[name] for name in ("version", "who", "when", "note", "summary")))
        return cls(commit, content["token"], content["facts_only"], content["definitions"], content["snapshot"])

    def snapshot(self, definitions: bytes | None) -> Snapshot:
        """The snapshot, with the definitions that are kept under their hash.

        Raises:
            UnreadableVersion: these are damaged or gone, or of a newer format.
        """
        if definitions is None or checksum(definitions) != self.definitions:
            raise UnreadableVersion(
                "its definitions are gone" if definitions is None else "its definitions do not match their hash"
            )
        text = json.dumps({**self.rest, "project": json.loads(definitions)})
        return decode(text, kept=checksum(text))


def parted(snapshot: Snapshot) -> tuple[bytes, dict[str, Any]]:
    """A snapshot's definitions as the bytes of their object, and the rest of it."""
    content = json.loads(snapshot.encode())
    definitions = json.dumps(content.pop("project"), sort_keys=True).encode()
    return definitions, content


def escaped(name: str) -> str:
    """A name as a part of an address; other names give other ones, on every provider."""
    return "".join(
        chr(each) if chr(each).isalnum() and each < 128 or each in b"_-" else f"={each:02X}" for each in name.encode()
    )


def unescaped(part: str) -> str:
    """The name that `escaped` wrote."""
    latin = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), part)
    return latin.encode("latin-1").decode()


def version_name(version: int) -> str:
    """The name of a version's object: names are in the order of the versions."""
    return f"{version:0{_DIGITS}d}.json"


def version_of(address: str) -> int | None:
    """The version of an object; None if it is none."""
    name, _, ending = address.rpartition("/")[2].partition(".")
    return int(name) if ending == "json" and name.isdigit() else None


__all__ = ["StoredVersion", "escaped", "parted", "unescaped", "version_name", "version_of"]
