"""The embedded registry in one SQLite file."""

from asof.registry.sqlite.registry import SqliteRegistry

__all__ = ["SqliteRegistry"]
