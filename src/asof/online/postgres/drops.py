"""The end of an online table, also where its rows belong to another user."""

from __future__ import annotations

import logging
from typing import Any

import psycopg

from asof.online.protocol import OnlineTable

log = logging.getLogger("asof.online")


def drop_table(db: psycopg.Connection[Any], schema: str, id: int, *, table: OnlineTable, address: str) -> None:
    """Drop a table by its number, in the connection's transaction; rows that only another user may drop stay.

    Readers then look for the rows of another generation, since these are neither listed nor marked any more.

    Args:
        schema: the store's, quoted.
        table: what is dropped, and `address`: where, for the log.
    """
    rows = f"{schema}.online_{id}"
    db.execute(f"DELETE FROM {schema}.online_tables WHERE id = %s", (id,))
    try:
        with db.transaction():
            db.execute(f"DROP TABLE {rows}")
    except psycopg.errors.InsufficientPrivilege:
        log.warning(
            "online table %s in %s is not used any more, and only the owner of its rows may drop them (as the owner, "
            "run `DROP TABLE %s`)", table, address, rows,
        )  # fmt: skip


__all__ = ["drop_table"]
