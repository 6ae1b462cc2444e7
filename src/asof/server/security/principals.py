"""Who is calling, and what they may do: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from asof.config.auth import ACTIONS, Role
from asof.errors import NotAllowed, some

_LEVELS = {action: level for level, action in enumerate(ACTIONS, start=1)}


class TaggedView(Protocol):
    """What has a name and tags: a view, an on-demand one too."""

    @property
    def name(self) -> str: ...

    @property
    def tags(self) -> Mapping[str, str]: ...


class Principal:
    """One who is known, with the roles that count in this project.

    Args:
        name: as audit logs have it.
        how: `key`, `token` or `certificate`; `nobody` where nobody has to say who they are.
        roles: all that were given; those for other projects fall away.
    """

    __slots__ = ("_anywhere", "_everywhere", "_tagged", "how", "name")

    def __init__(self, name: str, how: str, *, roles: Sequence[Role], project: str) -> None:
        self.name = name
        self.how = how
        here = [role for role in roles if not role.projects or project in role.projects]
        self._everywhere = max((_LEVELS[role.allow] for role in here if not role.tags), default=0)
        self._anywhere = max((_LEVELS[role.allow] for role in here), default=0)
        # Roles that add nothing are left out, so that most requests look at none.
        self._tagged = [
            (_LEVELS[role.allow], dict(role.tags))
            for role in here
            if role.tags and _LEVELS[role.allow] > self._everywhere
        ]

    def may(self, action: str, views: Sequence[TaggedView] = ()) -> bool:
        """Whether they may do this with each of these views; without any, with the whole project."""
        level = _LEVELS[action]
        if level <= self._everywhere:
            return True
        return bool(views) and level <= self._anywhere and all(self._reaches(level, view) for view in views)

    def require_any(self, action: str) -> None:
        """Let those pass who may do anything, with some view at least; of others nothing more need be received.

        Raises:
            NotAllowed: they have no role in this project.
        """
        if not self._anywhere:
            raise self._refusal(action)

    def require(self, action: str, views: Iterable[TaggedView] = ()) -> None:
        """Let them pass, or say what stands in the way.

        Args:
            views: what is read or written; none for what concerns the whole project.

        Raises:
            NotAllowed: they have no role for this.
        """
        level = _LEVELS[action]
        if level <= self._everywhere:
            return
        asked = list(views)
        if self.may(action, asked):
            return
        if not asked or level > self._anywhere:
            raise self._refusal(action, " but for some views" if level <= self._anywhere else "")
        refused = [view.name for view in asked if not self._reaches(level, view)]
        raise NotAllowed(
            f"{self.name!r} may not {action} feature view{'s' if len(refused) > 1 else ''} {some(refused)}",
            hint=f"ask whoever runs this server for a role that allows {action} with the tags of the view",
        )

    def _refusal(self, action: str, but: str = "") -> NotAllowed:
        return NotAllowed(
            f"{self.name!r} may not {action} here{but}",
            hint=f"ask whoever runs this server for a role that allows {action}",
        )

    def _reaches(self, level: int, view: TaggedView) -> bool:
        tags = view.tags
        return any(
            level <= allowed and all(tags.get(name) == value for name, value in wanted.items())
            for allowed, wanted in self._tagged
        )

    def __repr__(self) -> str:
        return f"Principal({self.name!r}, {self.how})"


def nobody_in_particular() -> Principal:
    """Everybody, where the server is open: on the loopback address, or because somebody said so."""
    return Principal("anybody", "nobody", roles=[Role("admin", "admin")], project="")
