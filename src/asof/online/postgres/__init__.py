"""The online store in PostgreSQL."""

from asof.online.postgres.store import PostgresOnlineStore

__all__ = ["PostgresOnlineStore"]
