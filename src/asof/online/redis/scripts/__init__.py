"""What Redis runs by itself, so that reading, deciding and writing are one step: scripts, sent by their hash."""

from __future__ import annotations

from hashlib import sha1
from pathlib import Path

GONE = "ASOFGONE"
"""The error of a script that found no such table."""

LATER_MS = 10**14
"""Added to the expiry of rows that Redis must not remove by its own clock (3000 years)."""

_FOLDER = Path(__file__).parent


class Script:
    """A script and its hash.

    Args:
        name: of its file in this folder.
        checks_table: begins with `table_check.lua`, which defines `first`.
    """

    def __init__(self, name: str, *, checks_table: bool = False) -> None:
        files = ["table_check", name] if checks_table else [name]
        self.text = b"".join((_FOLDER / f"{each}.lua").read_bytes() for each in files)
        self.hash = sha1(self.text).hexdigest().encode()


NEWEST = Script("newest", checks_table=True)
UNCHANGED = Script("unchanged", checks_table=True)
UNCHANGED_SMALL = Script("unchanged_small", checks_table=True)
"""For at most 1000 rows: Lua takes no more than 8000 arguments."""

PREPARE = Script("prepare")
WRITE_PROGRESS = Script("write_progress")
MARK = Script("mark")
DROP = Script("drop")
DROPPED = Script("dropped")
REMOVE = Script("remove")
EXPIRE = Script("expire")
