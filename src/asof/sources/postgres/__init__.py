"""Sources in PostgreSQL."""

from asof.sources.postgres.reader import PostgresReader

__all__ = ["PostgresReader"]
