"""What the demo marks as its own, so that it removes nothing else when it runs again."""

from __future__ import annotations

from dataclasses import dataclass

from asof.errors import AsofError

MARK = "Made by asof demo, which drops it when it runs again."


class NameTaken(AsofError):
    """An object on a server has the name that the demo needs, but was not created by the demo."""

    def __init__(self, what: str, place: str, *, hint: str = "use another name: --project NAME") -> None:
        super().__init__(
            f"{what} already exists in {place}, and the demo did not create it",
            hint=hint,
        )


@dataclass(frozen=True)
class DemoManifest:
    """The record of what an earlier demo created on other servers."""

    topic: str
    topic_id: str
