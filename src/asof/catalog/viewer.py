"""Who looks at the catalog, and what they may see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Viewer(Protocol):
    """The caller of a page. The server's authenticated principals are viewers."""

    @property
    def name(self) -> str:
        """The name in audit logs."""
        ...

    def may(self, action: str, views: Sequence[Any] = ()) -> bool:
        """Whether the viewer has the role for each of these views; for the whole project if there are none.

        Args:
            action: `read`, `write` or `admin`.
        """
        ...


class Owner:
    """The viewer of a catalog on one's own machine, who may see and do everything."""

    name = ""

    def may(self, action: str, views: Sequence[Any] = ()) -> bool:
        return True
