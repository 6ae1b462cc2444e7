"""How an option is declared: what it means, how it may be spelled, and the kinds of values that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct, structs

from asof.config.secrets import masked


class Section(Struct, frozen=True, kw_only=True):
    """A group of keys of `feature_store.yaml`. A field is an option: its name, type, bounds, default and meaning.

    Attributes:
        SECTION: the key that the group stands under; empty for the top level.
        PRODUCT: the `type:` that takes these options; empty where they are every type's.
        FEAST_KEYS: Feast's keys without a meaning here, which are accepted with a note.
        FEAST_TYPES: Feast's names of products, and what stands for them here.
        SERVER: the connection whose options a store on a server takes too.
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
    """What an option means, for the reference.

    Args:
        also: other spellings of the name, Feast's among them.
        unset: what the product takes where the option is left out, as it would be written.
    """

    meaning: str
    also: tuple[str, ...] = ()
    unset: str | int | float | None = None


@dataclass(frozen=True)
class ValueKind:
    """A kind of value: its name in the reference, and what messages say of it.

    Args:
        expected: what a message asks for; derived from the type and its bounds where empty.
        refusal: the message on text that does not fit the pattern, with `{path}` and `{found}`; `expected` where empty.
        hint: the next step of that message.
        takes_scalars: an unquoted number or moment is its text.
        splits: text is a list with commas between.
        words: texts with a meaning of their own: as paths they are left as they are.
    """

    name: str
    expected: str = ""
    refusal: str = ""
    hint: str = ""
    takes_scalars: bool = False
    splits: bool = False
    words: tuple[str, ...] = ()


Text = Annotated[str, Meta(min_length=1), ValueKind("text")]
Prefix = Annotated[str, ValueKind("prefix", "text")]
"""Text that may be empty."""
Scalar = Annotated[str, Meta(min_length=1), ValueKind("text", takes_scalars=True)]
"""Text that may look like a number."""
Path = Annotated[str, Meta(min_length=1), ValueKind("path", "text")]
"""Relative to the repository's root; absolute once it is read."""
CertificatesPath = Annotated[str, Meta(min_length=1), ValueKind("path", "text", words=("system",))]
"""A path, or libpq's word for what the machine trusts."""
Moment = Annotated[str, ValueKind("moment", "a moment such as 2026-01-31T12:00:00Z")]
Size = Annotated[
    str, Meta(pattern=r"(?i)^\s*\d+(\.\d+)?\s*([KMGT]i?B|B|%)\s*$"), ValueKind("size", "a size such as 4GB")
]
Whole = Annotated[int, Meta(ge=1)]
Index = Annotated[int, Meta(ge=0)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Number = Annotated[float, Meta(gt=0)]
"""Its unit is the end of the option's name: `_s` are seconds."""
Texts = Annotated[list[Text], ValueKind("list", "a list of text", splits=True)]
OneOrMore = Annotated[
    list[Scalar], Meta(min_length=1), ValueKind("list", "a list of text", hint="leave it out, or name some")
]
"""A list, or one text."""
Settings = Annotated[dict[str, Any], ValueKind("settings")]
"""Names and values of someone else's, by YAML's own types."""
