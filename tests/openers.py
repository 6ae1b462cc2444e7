"""Opens as many instances of a product as a test asks for, and closes them when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar


class Closed(Protocol):
    def close(self) -> None: ...


Product = TypeVar("Product", bound=Closed)


def opener(make: Callable[..., Product]) -> Iterator[Callable[..., Product]]:
    """A fixture's body: `yield from opener(lambda **options: SomeStore(path, **options))`."""
    opened: list[Product] = []

    def open_one(**options: object) -> Product:
        opened.append(make(**options))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()
