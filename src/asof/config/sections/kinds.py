"""How an option is declared: its description, its spellings and its kind of value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct, structs

from asof.secrets import masked


class Section(Struct, frozen=True, kw_only=True):
    """A group of keys of `feature_store.yaml`. A field is an option: its name, type, bounds, default and meaning.

    Attributes:
        SECTION: the key of the group; empty for the top level.
        PRODUCT: the `type:` that takes these options; empty for every type.
        FEAST_KEYS: keys of Feast that are accepted and ignored, with a note.
        FEAST_TYPES: Feast's names of products → Asof's.
        SERVER: the type of connection whose options are accepted too.
    """

    SECTION: ClassVar[str] = ""
    PRODUCT: ClassVar[str] = ""
    FEAST_KEYS: ClassVar[tuple[str, ...]] = ()
    FEAST_TYPES: ClassVar[dict[str, str]] = {}
    SERVER: ClassVar[type[Section] | None] = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({masked(structs.asdict(self))})"


@dataclass(frozen=True)
class OptionDoc:
    """Description of an option, for the reference.

    Args:
        also: other spellings of the name, including Feast's.
        unset: the product's default where the option is left out, as it would be written.
    """

    meaning: str
    also: tuple[str, ...] = ()
    unset: str | int | float | None = None


@dataclass(frozen=True)
class ValueKind:
    """A kind of value: its name in the reference, and its messages.

    Args:
        expected: the expected value in messages; derived from the type and its bounds if empty.
        refusal: the message for text that does not match the pattern, with `{path}` and `{found}`; `expected` where
            empty.
        hint: the next step of that message.
        takes_scalars: an unquoted number or time is accepted as text.
        splits: text is a comma-separated list.
        literals: texts with a special meaning, which are not resolved as paths.
        takes_addresses: a path may also be an address in object storage.
    """

    name: str
    expected: str = ""
    refusal: str = ""
    hint: str = ""
    takes_scalars: bool = False
    splits: bool = False
    literals: tuple[str, ...] = ()
    takes_addresses: bool = False


Text = Annotated[str, Meta(min_length=1), ValueKind("text")]
Prefix = Annotated[str, ValueKind("prefix", "text")]
"""Text that may be empty."""
Scalar = Annotated[str, Meta(min_length=1), ValueKind("text", takes_scalars=True)]
"""Text that may look like a number."""
Path = Annotated[str, Meta(min_length=1), ValueKind("path", "text")]
"""A path relative to the repository's root; made absolute on reading."""
Location = Annotated[
    str, Meta(min_length=1), ValueKind("path or address", "a path or an address such as s3://bucket/prefix",
                                       takes_addresses=True)
]  # fmt: skip
"""A path, or an address in object storage."""
CertificatesPath = Annotated[str, Meta(min_length=1), ValueKind("path", "text", literals=("system",))]
"""A path, or libpq's name for the machine's trusted certificates."""
Moment = Annotated[str, ValueKind("moment", "a time such as 2026-01-31T12:00:00Z")]
Size = Annotated[
    str, Meta(pattern=r"(?i)^\s*\d+(\.\d+)?\s*([KMGT]i?B|B|%)\s*$"), ValueKind("size", "a size such as 4GB")
]
Whole = Annotated[int, Meta(ge=1)]
Index = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Number = Annotated[float, Meta(gt=0)]
"""Its unit is the suffix of the option's name: `_s` is seconds."""
Texts = Annotated[list[Text], ValueKind("list", "a list of text", splits=True)]
OneOrMore = Annotated[
    list[Scalar], Meta(min_length=1), ValueKind("list", "a list of text", hint="leave it out, or name some")
]
"""A list, or one text."""
Settings = Annotated[dict[str, Any], ValueKind("settings")]
"""Names and values passed through to another program, by YAML's own types."""
