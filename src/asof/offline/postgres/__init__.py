"""The offline store that computes inside a PostgreSQL database."""

from asof.offline.postgres.engine import PostgresOffline

__all__ = ["PostgresOffline"]
