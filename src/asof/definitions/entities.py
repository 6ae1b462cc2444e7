"""Entities (what features are about) and fields (named, typed values)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from asof import dtypes
from asof.definitions.base import Definition, written_at
from asof.dtypes import DType
from asof.errors import DefinitionError


class Field:
    """A named value of a type.

    Args:
        name: the column's name.
        dtype: a type of `asof.types`.
        default: the value to return instead of null (also where the status is `NOT_FOUND` or `OUTSIDE_MAX_AGE`); None
            keeps the null.
    """

    __slots__ = ("name", "dtype", "description", "tags", "default")

    def __init__(
        self,
        name: str,
        dtype: DType,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        *,
        default: object = None,
        vector_index: bool = False,
        vector_length: int = 0,
        vector_search_metric: str | None = None,
    ) -> None:
        if not isinstance(dtype, DType):
            raise DefinitionError(
                f"field {name!r}: {dtype!r} is not a type",
                hint="use a type of asof.types, for example Int64",
                where=written_at(),
            )
        self.name, self.dtype, self.description, self.tags, self.default = (
            name,
            dtype,
            description,
            dict(tags or {}),
            default,
        )

    def content(self) -> dict[str, object]:
        content: dict[str, object] = {"name": self.name, "dtype": str(self.dtype)}
        if self.description:
            content["description"] = self.description
        if self.tags:
            content["tags"] = dict(sorted(self.tags.items()))
        if self.default is not None:
            content["default"] = self.default
        return content

    @classmethod
    def of(cls, content: Mapping[str, object]) -> Field:
        said: Mapping[str, Any] = content
        return cls(
            said["name"],
            dtypes.parse(said["dtype"]),
            said.get("description", ""),
            said.get("tags"),
            default=said.get("default"),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Field) and self.content() == other.content()

    def __hash__(self) -> int:
        return hash((self.name, self.dtype))

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.dtype})"


class Entity(Definition):
    """What features are about, and the column(s) that identify it.

    Args:
        join_keys: the identifying columns; the entity's own name where not given.
    """

    kind = "entity"
    accepted: ClassVar[frozenset[str]] = frozenset({"value_type"})

    join_keys: tuple[str, ...]

    def __init__(
        self,
        name: str,
        join_keys: Sequence[str] | None = None,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        **ignored: object,
    ) -> None:
        self._begin(name, description=description, tags=tags, owner=owner, ignored=ignored)
        if isinstance(join_keys, str):
            raise self.refuse(f"join_keys={join_keys!r} is text", hint=f"write join_keys=[{join_keys!r}]")
        keys = tuple(join_keys or (name,))
        if len(set(keys)) != len(keys):
            raise self.refuse(f"join_keys {list(keys)} repeat a name", hint="name each column once")
        self._set(join_keys=keys)

    def content(self) -> dict[str, object]:
        return {**self._common(), "join_keys": list(self.join_keys)}

    @classmethod
    def of(cls, content: Mapping[str, object]) -> Entity:
        said: Mapping[str, Any] = content
        return cls(**said)
