"""The names that feature repositories import types by: `from asof.types import Int64, String`."""

from asof.dtypes import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
    UnixTimestamp,
)

__all__ = [
    "Array",
    "Bool",
    "Bytes",
    "DType",
    "Date",
    "Decimal",
    "Embedding",
    "Float32",
    "Float64",
    "Int32",
    "Int64",
    "Json",
    "String",
    "Timestamp",
    "UnixTimestamp",
]
