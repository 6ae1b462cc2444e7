"""Authenticated callers and their roles; no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from asof.config.auth import ACTIONS, Role
from asof.errors import NotAllowed, nearest, some

_LEVELS = {action: level for level, action in enumerate(ACTIONS, start=1)}


class TaggedView(Protocol):
    """A view, also an on-demand one."""

    @property
    def name(self) -> str: ...

    @property
    def tags(self) -> Mapping[str, str]: ...


class Principal:
    """An authenticated caller, with its roles in this project.

    Args:
        name: the name in audit logs.
        how: `key`, `token` or `certificate`; `nobody` on a server without authentication.
        roles: all roles of the caller; those for other projects are ignored.
    """

    __slots__ = ("_anywhere", "_everywhere", "_tagged", "how", "name")

    def __init__(self, name: str, how: str, *, roles: Sequence[Role], project: str) -> None:
        self.name = name
        self.how = how
        here = [role for role in roles if not role.projects or project in role.projects]
        self._everywhere = max((_LEVELS[role.allow] for role in here if not role.tags), default=0)
        self._anywhere = max((_LEVELS[role.allow] for role in here), default=0)
        # Roles that add nothing are dropped, so that most requests check none.
        self._tagged = [
            (_LEVELS[role.allow], dict(role.tags))
            for role in here
            if role.tags and _LEVELS[role.allow] > self._everywhere
        ]

    def may(self, action: str, views: Sequence[TaggedView] = ()) -> bool:
        """Whether the caller has the role for each of these views; for the whole project if there are none."""
        level = _LEVELS[action]
        if level <= self._everywhere:
            return True
        return bool(views) and level <= self._anywhere and all(self._reaches(level, view) for view in views)

    def may_anywhere(self, action: str) -> bool:
        """Whether the caller has the role for any part of the project."""
        return _LEVELS[action] <= self._anywhere

    def require_any(self, action: str) -> None:
        """Check that the caller has any role, before the request's body is received.

        Raises:
            NotAllowed: the caller has no role in this project.
        """
        if not self._anywhere:
            raise self._refusal(action)

    def hidden(self, action: str, what: str, names: Sequence[str], known: Collection[str]) -> NotAllowed:
        """The error for objects for which the caller lacks the role, or that do not exist: it says the same of both.

        Args:
            what: their kind, such as `feature view`.
            names: as the request has them.
            known: names of objects of the kind for which the caller has the role.
        """
        near = nearest(names[0], known) or (f"it is allowed for {some(sorted(known))}" if known else "")
        kind = f"{what}s" if len(names) > 1 else what
        return NotAllowed(
            f"{self.how} {self.name!r} lacks the {action} role for {kind} {some(names)}",
            hint=near or f"ask the server's admin for a role that allows {action} with the tags of what you need",
        )

    def require(self, action: str, views: Iterable[TaggedView] = ()) -> None:
        """Check that the caller has the role for these views.

        Args:
            views: the views that are read or written; none for an action on the whole project.

        Raises:
            NotAllowed: the caller lacks the role.
        """
        level = _LEVELS[action]
        if level <= self._everywhere:
            return
        requested = list(views)
        if self.may(action, requested):
            return
        if not requested or level > self._anywhere:
            raise self._refusal(action, " for the whole project" if level <= self._anywhere else "")
        refused = [view.name for view in requested if not self._reaches(level, view)]
        views_of = "feature views" if len(refused) > 1 else "feature view"
        raise NotAllowed(
            f"{self.how} {self.name!r} lacks the {action} role for {views_of} {some(refused)}",
            hint=f"ask the server's admin for a role that allows {action} with the view's tags",
        )

    def _refusal(self, action: str, but: str = "") -> NotAllowed:
        return NotAllowed(
            f"{self.how} {self.name!r} lacks the {action} role{but}",
            hint=f"ask the server's admin for a role that allows {action}",
        )

    def _reaches(self, level: int, view: TaggedView) -> bool:
        tags = view.tags
        return any(
            level <= allowed and all(tags.get(name) == value for name, value in wanted.items())
            for allowed, wanted in self._tagged
        )

    def __repr__(self) -> str:
        return f"Principal({self.name!r}, {self.how})"


def anonymous() -> Principal:
    """The caller of a server without authentication: on the loopback address, or with `--insecure`."""
    return Principal("anybody", "nobody", roles=[Role("admin", "admin")], project="")
