"""The embedded online store in one SQLite file."""

from asof.online.sqlite.store import SqliteOnlineStore

__all__ = ["SqliteOnlineStore"]
