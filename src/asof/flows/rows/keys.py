"""Entity keys given by a user: checked against their types, packed and hashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from asof.definitions import Field
from asof.errors import RequestError, nearest, some
from asof.values.check import checker
from asof.values.packing import plainer, restorer


def plain_key(fields: Sequence[Field], key: Mapping[str, Any]) -> list[Any]:
    """A key's values in the order of `fields`, in the form that is packed.

    Raises:
        RequestError: a join key is missing, unknown, null, or of another type.
    """
    unknown = [name for name in key if name not in {field.name for field in fields}]
    names = [field.name for field in fields]
    if unknown:
        raise RequestError(
            f"{unknown[0]!r} is not a join key of the view",
            hint=nearest(unknown[0], names) or f"join keys: {some(names)}",
        )
    return [plain_value(field, key.get(field.name)) for field in fields]


def plain_value(field: Field, value: Any) -> Any:
    """A join key's value, in the form that is packed.

    Raises:
        RequestError: it is null, or of another type.
    """
    if value is None:
        raise RequestError(f"join key {field.name!r} is missing or null", hint=f"give a value of type {field.dtype}")
    try:
        fitted = checker(field.dtype)(value)
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise RequestError(f"join key {field.name!r}: {error}", hint=f"give a value of type {field.dtype}") from error
    plain = plainer(field.dtype)
    return fitted if plain is None else plain(fitted)


def restored_key(fields: Sequence[Field], plain: Sequence[Any]) -> dict[str, Any]:
    """A packed key's values as Python values, by name."""
    back = [restorer(field.dtype) for field in fields]
    return {
        field.name: value if restore is None else restore(value)
        for field, restore, value in zip(fields, back, plain, strict=True)
    }


def values_of_keys(
    columns: Sequence[str], fields: Sequence[Field], keys: Sequence[Sequence[Any]]
) -> dict[str, pa.Array]:
    """Column → its values in some keys, for what looks rows up by them; columns of integers and texts alone.

    Args:
        columns: the source's, one for each of the fields.
        keys: each key's plain values.
    """
    return {
        column: pa.array([key[place] for key in keys], field.dtype.arrow())
        for place, (column, field) in enumerate(zip(columns, fields, strict=True))
        if field.dtype.is_integer or field.dtype.name == "String"
    }


def key_hash(key: bytes, seed: int) -> int:
    """A hash that is uniform over keys and the same in every process."""
    return int.from_bytes(blake2b(key, digest_size=8, key=str(seed).encode()).digest(), "big")
