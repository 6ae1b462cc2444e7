"""Lua scripts, called by their hash: reading, deciding and writing are one atomic step."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

GONE = "ASOFGONE"
"""The error reply of a script if the table does not exist."""

LATER_MS = 10**14
"""Added to the expiry of rows that Redis must not remove by its own clock: 3000 years."""

_FOLDER = files(__name__)


class Script:
    """A Lua script and its hash.

    Args:
        name: its file in this directory.
        checks_table: prepend `table_check.lua`, which defines `first`.
    """

    def __init__(self, name: str, *, checks_table: bool = False) -> None:
        names = ["table_check", name] if checks_table else [name]
        self.text = b"".join((_FOLDER / f"{each}.lua").read_bytes() for each in names)
        self.hash = sha1(self.text).hexdigest().encode()


NEWEST = Script("newest", checks_table=True)
UNCHANGED = Script("unchanged", checks_table=True)
UNCHANGED_SMALL = Script("unchanged_small", checks_table=True)
"""At most 1000 rows: Lua accepts at most 8000 arguments."""

PREPARE = Script("prepare")
WRITE_PROGRESS = Script("write_progress")
MARK = Script("mark")
DROP = Script("drop")
DROPPED = Script("dropped")
REMOVE = Script("remove")
EXPIRE = Script("expire")
