"""The value types of fields, and their Arrow types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from asof.errors import DefinitionError, nearest

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class DType:
    """A value type. Compare with `==`; `str()` gives the text that `parse` reads back.

    Args:
        name: one of `Bool, Int32, Int64, Float32, Float64, Decimal, String, Bytes, Date, Timestamp, Json, Array,
            Embedding`.
        inner: the element type of an Array.
        size: the length of an Embedding.
        precision, scale: of a Decimal.
    """

    name: str
    inner: DType | None = None
    size: int = 0
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        if self.name == "Array":
            return f"Array({self.inner})"
        if self.name == "Embedding":
            return f"Embedding({self.size})"
        if self.name == "Decimal":
            return f"Decimal({self.precision},{self.scale})"
        return self.name

    __repr__ = __str__

    def __call__(self, precision: int = 38, scale: int = 9) -> DType:
        """`Decimal(12, 2)`: a Decimal of that precision and scale."""
        if self.name != "Decimal":
            raise DefinitionError(f"type {self.name} takes no arguments", hint=f"write {self.name} without brackets")
        if not 0 <= scale <= precision <= 38:
            raise DefinitionError(
                f"Decimal({precision}, {scale}): expected 0 <= scale <= precision <= 38", hint="choose smaller numbers"
            )
        return DType("Decimal", precision=precision, scale=scale)

    @property
    def is_integer(self) -> bool:
        return self.name in ("Int32", "Int64")

    @property
    def is_float(self) -> bool:
        return self.name in ("Float32", "Float64")

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_float or self.name == "Decimal"

    @property
    def is_text(self) -> bool:
        return self.name in ("String", "Json")

    @property
    def innermost(self) -> DType:
        """The type of what lies in lists, however deep; the type itself where it is no list."""
        return self if self.inner is None else self.inner.innermost

    def arrow(self) -> pa.DataType:
        """The Arrow type: Timestamp is `timestamp[us, UTC]`, Json is `string`, Embedding a list of float32."""
        return _arrow(self)


Bool = DType("Bool")
Int32 = DType("Int32")
Int64 = DType("Int64")
Float32 = DType("Float32")
Float64 = DType("Float64")
Decimal = DType("Decimal", precision=38, scale=9)
String = DType("String")
Bytes = DType("Bytes")
Date = DType("Date")
Timestamp = DType("Timestamp")
Json = DType("Json")
UnixTimestamp = Timestamp
"""Feast's name for Timestamp."""

INT_BOUNDS: dict[str, tuple[int, int]] = {"Int32": (-(2**31), 2**31 - 1), "Int64": (-(2**63), 2**63 - 1)}
"""Integer type → its least and greatest value."""
LEAST_INT64, GREATEST_INT64 = INT_BOUNDS["Int64"]

GREATEST_FLOAT32 = (2 - 2**-23) * 2.0**127
GREATEST_EXACT = 2**53
"""The greatest integer up to which all integers of either sign are exact in Float64."""
GREATEST_EXACT_32 = 2**24
"""The same of Float32."""

SCALARS: dict[str, DType] = {
    str(dtype.name): dtype
    for dtype in (Bool, Int32, Int64, Float32, Float64, Decimal, String, Bytes, Date, Timestamp, Json)
}


def Array(inner: DType) -> DType:  # noqa: N802 - a type constructor, spelt like Feast's
    """A list of `inner` values, nulls allowed."""
    if not isinstance(inner, DType):
        raise DefinitionError(f"Array({inner!r}): expected a type of asof.types", hint="write for example Array(Int64)")
    return DType("Array", inner=inner)


def Embedding(size: int) -> DType:  # noqa: N802
    """A vector of exactly `size` Float32 values."""
    if not isinstance(size, int) or size < 1:
        raise DefinitionError(
            f"Embedding({size!r}): expected a positive length", hint="write for example Embedding(384)"
        )
    return DType("Embedding", size=size)


def parse(text: str) -> DType:
    """The type that `str()` wrote as `text`.

    Raises:
        DefinitionError: no such type.
    """
    text = text.strip()
    if text.startswith("Array(") and text.endswith(")"):
        return Array(parse(text[6:-1]))
    if text.startswith("Embedding(") and text.endswith(")"):
        return Embedding(int(text[10:-1]))
    if text.startswith("Decimal(") and text.endswith(")"):
        precision, scale = text[8:-1].split(",")
        return Decimal(int(precision), int(scale))
    if text in SCALARS:
        return SCALARS[text]
    raise DefinitionError(f"no type {text!r}", hint=nearest(text, SCALARS) or f"choose one of {', '.join(SCALARS)}")


def from_arrow(kind: pa.DataType) -> DType | None:
    """The type whose values an Arrow column of this type holds, exactly; None where there is none.

    Lists of a fixed size are arrays, UUIDs text, structs and maps JSON; but of a struct whose fields differ by case
    alone engines rename one.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return from_arrow(kind.value_type)
    if isinstance(kind, pa.UuidType):
        return String
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return Json if _has_distinct_names(kind) else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = from_arrow(kind.value_type)
        return None if inner is None else Array(inner)
    if pa.types.is_decimal(kind):
        return Decimal(kind.precision, kind.scale) if kind.precision <= 38 else None
    for fits, dtype in (
        (pa.types.is_boolean, Bool), (pa.types.is_int64, Int64), (pa.types.is_uint32, Int64),
        (pa.types.is_uint64, Int64),
        (pa.types.is_integer, Int32), (pa.types.is_float64, Float64), (pa.types.is_floating, Float32),
        (pa.types.is_string, String), (pa.types.is_large_string, String), (pa.types.is_string_view, String),
        (pa.types.is_binary, Bytes), (pa.types.is_large_binary, Bytes), (pa.types.is_binary_view, Bytes),
        (pa.types.is_fixed_size_binary, Bytes),
        (pa.types.is_date, Date), (pa.types.is_timestamp, Timestamp),
    ):  # fmt: skip
        if fits(kind):
            return dtype
    return None


def _has_distinct_names(kind: pa.DataType) -> bool:
    """Whether no two fields of a struct, however deep, differ by case alone."""
    fields = [kind.field(place) for place in range(kind.num_fields)]
    names = {each.name.lower() for each in fields}
    return len(names) == len(fields) and all(_has_distinct_names(each.type) for each in fields)


@lru_cache(maxsize=256)
def _arrow(dtype: DType) -> pa.DataType:
    import pyarrow as pa  # `import asof` loads no pyarrow

    if dtype.name == "Array":
        assert dtype.inner is not None
        return pa.list_(dtype.inner.arrow())
    plain: dict[str, Any] = {
        "Bool": pa.bool_(),
        "Int32": pa.int32(),
        "Int64": pa.int64(),
        "Float32": pa.float32(),
        "Float64": pa.float64(),
        "String": pa.string(),
        "Json": pa.string(),
        "Bytes": pa.binary(),
        "Date": pa.date32(),
        "Timestamp": pa.timestamp("us", "UTC"),
        "Embedding": pa.list_(pa.float32()),
        "Decimal": pa.decimal128(dtype.precision or 38, dtype.scale),
    }
    return plain[dtype.name]
